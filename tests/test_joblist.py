"""Job lists: three formats, the same rows; bad rows are named and leave the others alone."""

from __future__ import annotations

import json

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from wan2_i2v import joblist
from wan2_i2v.errors import InvalidJobList
from wan2_i2v.request import GenerateRequest

ROWS = [{"image": "a.png", "prompt": 'x, "y"', "seed": 0}, {"image": "b.png", "num_frames": 9, "overwrite": True}]


def write(folder, name, text):
    path = folder / name
    path.write_text(text, encoding="utf-8")
    return path


def test_the_formats_give_the_same_requests(tmp_path):
    table = 'image,prompt,seed,num_frames,overwrite\na.png,"x, ""y""",0,,\n\nb.png,,,9,true\n'
    lists = [
        write(tmp_path, "jobs.jsonl", "\n".join(json.dumps(row) for row in ROWS) + "\n\n"),
        write(tmp_path, "jobs.csv", "\ufeff" + table),
        write(tmp_path, "jobs.yaml", yaml.safe_dump(ROWS)),
    ]
    wanted = [GenerateRequest(**({"fps": 12, "prompt": "default"} | row)) for row in ROWS]
    for path in lists:
        assert joblist.is_job_list(str(path))
        assert [row.request for row in joblist.read(path, {"fps": 12, "prompt": "default"})] == wanted


def test_lines_are_counted_as_an_editor_counts_them(tmp_path):
    jsonl = write(tmp_path, "a.jsonl", '{"image": "a.png"}\n\n{"image": "b.png"}\n')
    assert [row.line for row in joblist.read(jsonl, {})] == [1, 3]
    table = write(tmp_path, "a.csv", "image,prompt\na.png,x\nb.png,y\n")
    assert [row.line for row in joblist.read(table, {})] == [2, 3]
    text = write(tmp_path, "a.yml", "# clips\n- image: a.png\n  seed: 1\n- image: b.png\n")
    assert [row.line for row in joblist.read(text, {})] == [2, 4]


@pytest.mark.parametrize(
    ("name", "text", "line", "says"),
    [
        ("jobs.jsonl", '{"image": "a.png"}\n{"image": "b.png", "stepps": 3}\n', 2, "a known field"),
        ("jobs.jsonl", '{"image": "a.png"}\nnonsense\n', 2, "one JSON object per line"),
        ("jobs.jsonl", '{"image": "a.png"}\n[1]\n', 2, "names and values"),
        ("jobs.jsonl", '{"image": "a.png"}\n{"prompt": "x"}\n', 2, "required"),
        ("jobs.jsonl", '{"image": "a.png"}\n{"image": 5}\n', 2, "image"),
        ("jobs.csv", "image,seed\na.png,1\nb.png,1.5\n", 3, "seed"),
        ("jobs.csv", "image,seed\na.png,1\nb.png,1,2\n", 3, "2 cells"),
        ("jobs.csv", 'image,seed\na.png,1\n"b.png,1\n', 3, "comma-separated"),
        ("jobs.yaml", "- image: a.png\n- image: b.png\n  fps: .nan\n", 2, "fps"),
        ("jobs.yaml", "- image: a.png\n- just text\n", 2, "names and values"),
    ],
)
def test_a_bad_row_is_named_and_the_others_stand(tmp_path, name, text, line, says):
    good, bad = joblist.read(write(tmp_path, name, text), {})
    assert isinstance(good.request, GenerateRequest)
    assert isinstance(bad.request, InvalidJobList)
    assert bad.line == line
    assert f"{name} line {line}" in str(bad.request)
    assert says in str(bad.request)


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("empty.jsonl", b"\n"),
        ("empty.csv", b""),
        ("empty.yaml", b"# nothing\n"),
        ("mapping.yaml", b"image: a.png\n"),
        ("broken.yaml", b"- image: [a\n"),
        ("latin.csv", "image\né.png\n".encode("latin-1")),
    ],
)
def test_a_list_that_is_none_is_refused_whole(tmp_path, name, content):
    (tmp_path / name).write_bytes(content)
    with pytest.raises(InvalidJobList, match="job list"):
        joblist.read(tmp_path / name, {})


def test_a_missing_list_is_refused(tmp_path):
    with pytest.raises(InvalidJobList, match="readable"):
        joblist.read(tmp_path / "none.jsonl", {})


def test_pictures_are_looked_for_beside_the_list(tmp_path):
    (tmp_path / "here.png").touch()
    rows = joblist.read(write(tmp_path, "jobs.jsonl", '{"image": "here.png"}\n{"image": "there.png"}'), {})
    assert [row.request.image for row in rows] == [str(tmp_path / "here.png"), "there.png"]


@given(st.lists(st.tuples(st.integers(-3, 3), st.sampled_from(["seed", "num_frames", "sed"])), min_size=1, max_size=8))
def test_every_row_comes_out_once_and_in_order(tmp_path_factory, fields):
    path = tmp_path_factory.getbasetemp() / "property.jsonl"
    path.write_text("\n".join(json.dumps({"image": "a.png", name: value}) for value, name in fields))
    rows = joblist.read(path, {})
    assert [row.line for row in rows] == list(range(1, len(fields) + 1))
    for row, (value, name) in zip(rows, fields, strict=True):
        good = name != "sed" and value >= (1 if name == "num_frames" else 0)
        assert isinstance(row.request, GenerateRequest) == good
