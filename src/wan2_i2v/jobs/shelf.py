"""Pictures by the SHA-256 of their bytes: the same bytes are kept once, however many jobs use them.

Comes in: bytes. Goes out: an id, what is known of the picture, and a file of its own for a job. Imported by the service.
"""

from __future__ import annotations

import hashlib
import os
import re
import shutil
import time
from collections import OrderedDict
from collections.abc import Collection
from pathlib import Path

from wan2_i2v import pictures
from wan2_i2v.errors import InvalidImage
from wan2_i2v.plan import ImageFacts
from wan2_i2v.workspace import make_folder, replacing, sync_folder

REMEMBERED = 1024
ID = r"[0-9a-f]{64}"


class Shelf:
    """See the module. For the threads of one process."""

    def __init__(self, folder: Path, max_pixels: int = pictures.MAX_PIXELS) -> None:
        self._folder, self._max_pixels = folder, max_pixels
        self._facts: OrderedDict[str, ImageFacts] = OrderedDict()
        self._flushed: set[str] = set()

    def put(self, data: bytes) -> str:
        """Keep a picture; its id. On disk, and a picture that can be decoded, before this returns.

        Raises InvalidImage for what is none; nothing is kept then.
        """
        picture = hashlib.sha256(data).hexdigest()
        path = self._folder / picture
        if not path.exists():
            make_folder(self._folder)
            with replacing(path) as temporary:
                temporary.write_bytes(data)
                self._remember(picture, pictures.read_facts(temporary, self._max_pixels))
            self._flushed.add(picture)
        else:
            self.use(picture)
        return picture

    def use(self, picture: str) -> None:
        """Keep a picture from now on as if it were new; it is on disk when this returns. Raises InvalidImage."""
        os.utime(self.path(picture))
        # One that is there by its name may just be on its way to the disk.
        if picture not in self._flushed:
            sync_folder(self._folder)
            if len(self._flushed) >= REMEMBERED:
                self._flushed.clear()
            self._flushed.add(picture)

    def path(self, picture: str) -> Path:
        """The file of an id. Raises InvalidImage for an id that is not kept."""
        path = self._folder / picture
        if not re.fullmatch(ID, picture) or not path.is_file():
            raise InvalidImage("picture", picture, "the id that uploading a picture gave", "Upload the picture again.")
        return path

    def facts(self, picture: str) -> ImageFacts:
        """What is known of a kept picture, whatever the path in it. Raises InvalidImage."""
        known = self._facts.get(picture)
        return known or self._remember(picture, pictures.read_facts(self.path(picture), self._max_pixels))

    def has(self, picture: str) -> bool:
        return (self._folder / picture).is_file()

    def knows(self, picture: str) -> bool:
        """Whether the facts of a picture are known without a look at it."""
        return picture in self._facts

    def link(self, picture: str, path: Path) -> None:
        """Give a kept picture a second name, `path`, which outlives the first, once the system has written it down.

        The first one is on disk when this returns. Raises InvalidImage.
        """
        source = self.path(picture)
        self.use(picture)
        if path.exists():
            return
        try:
            os.link(source, path)
        except OSError:
            # File systems without links get a copy.
            with replacing(path) as temporary:
                shutil.copyfile(source, temporary)

    def sweep(self, seconds: float, wanted: Collection[str] = ()) -> None:
        """Remove pictures that were not used for so long, but for those `wanted`; a job that began has its own."""
        if not self._folder.is_dir():
            return
        for path in self._folder.iterdir():
            if path.name not in wanted and time.time() - path.stat().st_mtime > seconds:
                path.unlink(missing_ok=True)

    def _remember(self, picture: str, facts: ImageFacts) -> ImageFacts:
        self._facts[picture] = facts
        if len(self._facts) > REMEMBERED:
            self._facts.popitem(last=False)
        return facts
