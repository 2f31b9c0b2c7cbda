"""What is planned for a cluster, from what its machines say of themselves. Without Ray."""

from __future__ import annotations

import pytest

import plans
from wan2_i2v.cluster.connection import Node, Seen, Survey, one_of_each
from wan2_i2v.errors import CheckpointError, ClusterError, DeviceError, InvalidRequest
from wan2_i2v.measured import Table

NODES = (
    Node("a", "head", 0, 8),
    Node("b", "small", 2, 8, ("accelerator_type:L4",)),
    Node("c", "large", 8, 64, ("accelerator_type:H100",)),
)


def seen(card=None, error=None) -> Seen:
    return Seen("0.1.0", card, plans.CPU, Table(), error)


def survey(**changes) -> Survey:
    found = {"a": seen(), "b": seen(plans.card(24)), "c": seen(plans.card(80, 512))}
    return Survey(NODES, found | changes)


def test_the_smallest_card_is_planned_for_as_its_process_sees_it():
    device = survey().device("auto")
    assert (device.name, device.vram_bytes) == ("cuda:0", 24 * 2**30)
    assert device.ram_bytes == 16 * 2**30, "two cards share the machine's 32 GiB"


def test_one_machine_of_each_kind_is_asked():
    assert [node.id for node in one_of_each([*NODES, Node("d", "other", 8, 64, ("accelerator_type:H100",))])] == [
        "c",
        "b",
    ]
    assert [node.id for node in one_of_each(NODES[:1])] == ["a"]


def test_the_processor_where_it_is_asked_for_or_is_all_there_is():
    assert survey().device("cpu") == plans.CPU
    bare = Survey(NODES[1:2], {"b": seen()})
    assert bare.device("auto") == plans.CPU
    with pytest.raises(DeviceError, match="no machine of the cluster has a CUDA card"):
        bare.device("cuda")


def test_a_cluster_without_cards_says_how_to_have_some():
    with pytest.raises(ClusterError, match=r"1 machines and no cards.*--num-gpus=1"):
        Survey(NODES[:1], {"a": seen()}).device("auto")


def test_cards_have_no_numbers():
    with pytest.raises(InvalidRequest, match="Ray gives out the cards"):
        survey().device("cuda:1")


def test_a_machine_that_cannot_work_is_refused_before_anything_runs():
    with pytest.raises(CheckpointError, match="broken"):
        survey(b=seen(error=CheckpointError("broken").to_dict())).device("auto")
