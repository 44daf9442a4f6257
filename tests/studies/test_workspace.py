"""Promise: a stage counts as done when its record and its files are whole and its inputs are the same; never else."""

import json
import math
import os
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from shapewright.studies.files import content_key, file_key, sha256, write_json, write_text
from shapewright.studies.run.workspace import Record, Workspace, WorkspaceError

plain = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**53), 2**53) | st.floats(allow_nan=False) | st.text(),
    lambda items: st.lists(items, max_size=3) | st.dictionaries(st.text(), items, max_size=3),
    max_leaves=8,
)


@pytest.fixture
def workspace(tmp_path):
    (tmp_path / ".stages").mkdir()
    return Workspace(tmp_path)


def finish(workspace, key="k"):
    workspace.path("data").write_text("0123456789")
    return workspace.finish(Record("stage", key, 1.23456, {"a": 1}, {"note": "kept"}), ("data",))


def test_a_finished_stage_is_found_again(workspace):
    record = finish(workspace)
    assert workspace.finished("stage", "k") == record
    assert record.content == {"note": "kept"}
    assert record.inputs == {"a": 1}
    assert record.seconds == 1.235
    assert workspace.finished("stage", "other inputs") is None
    assert workspace.finished("other stage", "k") is None


@pytest.mark.parametrize("text", ["012345678", "0123456789+", None])
def test_a_file_that_is_cut_or_gone_is_not_taken_for_whole(workspace, text):
    finish(workspace)
    if text is None:
        workspace.path("data").unlink()
    else:
        workspace.path("data").write_text(text)
    assert workspace.finished("stage", "k") is None


def test_an_edit_that_leaves_size_and_time_is_seen_and_named(workspace):
    record = finish(workspace)
    path = workspace.path("data")
    stat = path.stat()
    path.write_text("0123456780")
    assert workspace.finished("stage", "k") is None
    assert workspace.changed(record) == ["data"]
    path.unlink()
    path.write_text("9876543210")  # another file, which claims to be as old
    os.utime(path, ns=(stat.st_atime_ns, stat.st_mtime_ns))
    sha256.__globals__["_sha256"].cache_clear()  # as another process would
    assert workspace.finished("stage", "k") is None


def test_a_file_is_hashed_once_as_long_as_it_stays(workspace, monkeypatch):
    finish(workspace)
    monkeypatch.setattr("shapewright.studies.files.hashlib.file_digest", lambda *_: pytest.fail("hashed again"))
    assert workspace.finished("stage", "k") is not None
    workspace.path("data").write_text("other size")
    workspace.path("data").write_text("another size")
    assert workspace.finished("stage", "k") is None  # the size alone tells it


def test_records_of_earlier_versions_that_hold_sizes_alone_count_as_they_did(workspace):
    record = replace(finish(workspace), files={"data": 10}, inputs=None)
    write_json(workspace.path(".stages/stage.json"), record.as_data())
    assert workspace.finished("stage", "k") == record
    workspace.path("data").write_text("short")
    assert workspace.finished("stage", "k") is None


def test_no_cut_of_a_record_is_taken_for_whole(workspace):
    finish(workspace)
    record = workspace.path(".stages/stage.json")
    whole = record.read_bytes()
    for length in range(len(whole.rstrip())):
        record.write_bytes(whole[:length])
        assert workspace.finished("stage", "k") is None
    for text in (b"[]", b'"text"', b"\xff\xfe", b"{}"):
        record.write_bytes(text)
        assert workspace.finished("stage", "k") is None


def test_a_failed_write_leaves_the_old_file(workspace, monkeypatch):
    path = workspace.path("text")
    write_text(path, "old")
    full = OSError(28, "No space")
    monkeypatch.setattr("shapewright.studies.files.os.fsync", lambda file: (_ for _ in ()).throw(full))
    with pytest.raises(OSError, match="No space") as caught:
        write_text(path, "new and longer")
    assert path.read_text() == "old"
    assert caught.value.filename == str(path)  # the system names none where a write fails
    assert [file.name for file in workspace.folder.iterdir() if file.is_file()] == ["text"]


def test_json_is_strict_json(workspace):
    path = workspace.path("x.json")
    write_json(path, {"a": math.nan, "b": [math.inf, 1.5, {"c": -math.inf}], "d": (1, "é")})
    text = path.read_text()
    assert "é" in text
    strict = json.loads(text, parse_constant=lambda name: pytest.fail(f"{name} is no JSON"))
    assert strict == {"a": None, "b": [None, 1.5, {"c": None}], "d": [1, "é"]}


@given(first=plain, second=plain)
def test_keys_differ_exactly_where_content_does(first, second):
    same = json.dumps(first, sort_keys=True) == json.dumps(second, sort_keys=True)
    assert (content_key("stage", first) == content_key("stage", second)) == same


def test_a_files_key_is_that_of_its_content(tmp_path):
    for name, text in (("a", "1"), ("b", "1"), ("c", "2")):
        (tmp_path / name).write_text(text)
    assert file_key(tmp_path / "a") == file_key(tmp_path / "b") != file_key(tmp_path / "c")


def test_one_run_at_a_time(tmp_path):
    workspace = Workspace(tmp_path / "deep" / "out")
    with (
        workspace.lock(),
        pytest.raises(WorkspaceError, match="another shapewright run is using it"),
        workspace.lock(),
    ):
        pass
    with workspace.lock():  # it was let go
        pass


def test_a_folder_that_cannot_be_used_is_named(tmp_path):
    (tmp_path / "file").write_text("")
    for folder in (tmp_path / "file", tmp_path / "file" / "below"):
        message = f"{folder}: cannot be used as output folder .*choose another with --out"
        with pytest.raises(WorkspaceError, match=message), Workspace(folder).lock():
            pass
