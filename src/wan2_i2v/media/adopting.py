"""A video that another program made → a clip in a job's folder. Imported by the ComfyUI stage. No torch.

An mp4 stays as it was encoded: its packets are copied. One that names no colours was converted as FFmpeg does by itself,
with the matrix of BT.601 whatever its size, and is tagged so: players would take 720 lines and more for BT.709.
"""

from __future__ import annotations

from pathlib import Path

import av
from av.bitstream import BitStreamFilterContext

from wan2_i2v.media import reader
from wan2_i2v.media.formats import ClipFormat
from wan2_i2v.media.writer import write_clip
from wan2_i2v.workspace import replacing

TAGS = "h264_metadata=matrix_coefficients=6:colour_primaries=1:transfer_characteristics=1:video_full_range_flag=0"
"""Numbers of ITU-T H.273: the matrix of BT.601, primaries and transfer as sRGB's frames have them (BT.709's)."""
MUXER = {"movflags": "+faststart", "fflags": "+bitexact"}


def adopt(source: Path, target: Path, clip: ClipFormat) -> None:
    """Make `target` the clip of `source`; encoded anew only for another container than mp4. Atomic.

    Raises InvalidRequest for a file that is no video or is damaged.
    """
    facts = reader.probe(source)
    if clip.container != "mp4":
        write_clip(target, reader.frames(source), clip)
        return
    untagged = facts.codec == "h264" and reader.UNTAGGED in (facts.matrix, facts.primaries, facts.transfer)
    with replacing(target) as temporary:
        _copied(source, temporary, TAGS if untagged else "null")


def _copied(source: Path, target: Path, filters: str) -> None:
    with av.open(source) as given, av.open(target, "w", format="mp4", options=MUXER) as output:
        track = given.streams.video[0]
        copy = output.add_stream_from_template(track)
        if track.average_rate is not None:
            copy.codec_context.framerate = track.average_rate
        through = BitStreamFilterContext(filters, track, copy)
        for packet in given.demux(track):
            # The empty packet at the end flushes the filter.
            for filtered in through.filter(packet if packet.dts is not None else None):
                filtered.stream = copy
                output.mux(filtered)
