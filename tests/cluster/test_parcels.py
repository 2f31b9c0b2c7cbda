"""Parcels: a job's artifacts in another folder, byte for byte; and in a second place."""

from __future__ import annotations

import numpy as np
import pytest

import plans
from wan2_i2v import pipeline, placement, places
from wan2_i2v.cluster import parcels
from wan2_i2v.cluster.storage import Storage
from wan2_i2v.cluster.way import Way, order
from wan2_i2v.errors import ClusterError
from wan2_i2v.pipeline import Fate
from wan2_i2v.stages.base import Job
from wan2_i2v.workspace import Workspace


@pytest.fixture
def there(tmp_path):
    (tmp_path / "here").mkdir()
    (tmp_path / "there").mkdir()
    return Workspace(tmp_path / "here"), Workspace(tmp_path / "there")


def test_a_file_arrives_as_it_was(there):
    here, other = there
    here.latents.write_bytes(bytes(range(256)))
    parcels.unpack(parcels.pack(here, plans.plan(), "latents"), other)
    assert other.latents.read_bytes() == bytes(range(256))


def test_a_folder_of_frames_arrives_whole(there):
    here, other = there
    plan = plans.plan(container="png")
    places.clip_path(here, plan).mkdir()
    for number in range(3):
        (places.clip_path(here, plan) / f"{number}.png").write_bytes(bytes([number]))
    parcels.unpack(parcels.pack(here, plan, "clip"), other)
    assert [path.read_bytes() for path in sorted(places.clip_path(other, plan).iterdir())] == [b"\0", b"\1", b"\2"]


def test_both_prepared_pictures_travel(there):
    here, other = there
    here.prepared.write_bytes(b"first")
    here.prepared_last.write_bytes(b"last")
    parcels.unpack(parcels.pack(here, plans.plan(), "prepared"), other)
    assert (other.prepared.read_bytes(), other.prepared_last.read_bytes()) == (b"first", b"last")


def test_what_is_not_there_is_an_empty_parcel(there):
    assert parcels.pack(there[0], plans.plan(), "latents") == {}


@pytest.mark.parametrize("name", ["../outside", "/etc/outside", "clip/../../outside", "a/b/c", ""])
def test_a_parcel_cannot_leave_the_folder(there, name):
    with pytest.raises(ClusterError, match="only files of the job's own folder"):
        parcels.unpack({name: np.zeros(1, np.uint8)}, there[1])


def test_every_stage_between_preprocess_and_finish_has_its_parcels():
    for stage in pipeline.STAGES[1:-1]:
        assert (
            set(parcels.needs(stage.name)) <= set(parcels.ARTIFACTS) and parcels.makes(stage.name) in parcels.ARTIFACTS
        )


def test_the_second_place_gives_back_what_it_got(there, tmp_path):
    here, other = there
    here.latents.write_bytes(b"latents")
    plan, storage = plans.plan(), Storage(f"file://{tmp_path}/store")
    (tmp_path / "store").mkdir()
    storage.save(plan, "latents", parcels.pack(here, plan, "latents"))
    parcels.unpack(storage.load(plan, "latents"), other)
    assert other.latents.read_bytes() == b"latents"
    assert storage.load(plan, "text") == {}
    assert storage.load(plan.model_copy(update={"seed": 8}), "latents") == {}, "another plan's artifacts are not taken"


def test_a_bucket_gives_back_what_it_got(there, s3, monkeypatch):
    for name, value in s3.items():
        monkeypatch.setenv(name, value)
    here, other = there
    here.latents.write_bytes(b"latents")
    plan, storage = plans.plan(), Storage("s3://clips/parcels")
    storage.save(plan, "latents", parcels.pack(here, plan, "latents"))
    parcels.unpack(storage.load(plan, "latents"), other)
    assert other.latents.read_bytes() == b"latents" and storage.load(plan, "text") == {}
    elsewhere = Storage("s3://no-such-bucket/parcels")
    with pytest.raises(ClusterError, match="there is no no-such-bucket"):
        elsewhere.save(plan, "latents", parcels.pack(here, plan, "latents"))
    assert elsewhere.load(plan, "latents") == {}


def test_a_second_place_that_nothing_opens_is_named():
    with pytest.raises(ClusterError, match="WAN2_I2V_CLUSTER_STORAGE is 'nowhere://bucket'"):
        Storage("nowhere://bucket").load(plans.plan(), "latents")


def test_a_share_that_is_not_mounted_is_named(tmp_path):
    with pytest.raises(ClusterError, match="mount the folder"):
        Storage(f"{tmp_path}/share").save(plans.plan(), "latents", {"latents.safetensors": np.zeros(1, np.uint8)})
    assert not (tmp_path / "share").exists()


def test_a_second_place_that_cannot_be_written_is_named(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(ClusterError, match="cannot write"):
        Storage(f"{tmp_path}/file").save(plans.plan(), "latents", {"latents.safetensors": np.zeros(1, np.uint8)})


def test_a_job_goes_its_way_in_order(tmp_path):
    plan = plans.plan()
    way = Way.of(Fate(*[Job(plan, Workspace(tmp_path))] * 2))
    assert way.order == order(plan) == ("text", "image", "denoise high", "denoise low", "decode", "verify")
    gone = []
    while not way.is_over:
        ready = way.ready()
        assert ready == (["text", "image"] if not gone else ["image"] if gone == ["text"] else [way.left()[0]])
        gone.append(ready[0])
        way.finish(ready[0], object())
    assert gone == list(way.order) and not way.refs, "nothing is kept in the object store for a job that is over"


def test_times_that_are_not_known_count_a_little(tmp_path):
    plan = plans.plan().model_copy(update={"times": ()})
    way = Way.of(Fate(*[Job(plan, Workspace(tmp_path))] * 2))
    assert all(load.seconds > 0 for load in placement.loads(way.times()))
