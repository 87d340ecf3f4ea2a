"""What a run knows of itself: where its data lie, and which of its rounds came last."""

import json
import shutil

import pytest

from w4rl_fast.errors import UserError
from w4rl_fast.run import ROUND_FILE, keep_store, latest, rounds, store_of_run


def test_run_and_store_can_be_moved_together(tmp_path) -> None:
    (tmp_path / "here" / "data").mkdir(parents=True)
    keep_store(tmp_path / "here" / "runs" / "one", tmp_path / "here" / "data")
    shutil.move(tmp_path / "here", tmp_path / "there")
    assert store_of_run(tmp_path / "there" / "runs" / "one") == tmp_path / "there" / "data"


def test_what_is_given_comes_before_what_is_kept(tmp_path) -> None:
    (tmp_path / "data").mkdir()
    assert store_of_run(tmp_path) == tmp_path / "data"
    keep_store(tmp_path, tmp_path / "elsewhere")
    assert store_of_run(tmp_path, tmp_path / "given") == tmp_path / "given"
    with pytest.raises(UserError, match=r"elsewhere.*not there"):
        store_of_run(tmp_path)


def test_a_damaged_note_is_named(tmp_path) -> None:
    (tmp_path / "data.json").write_text('{"store": "da')
    with pytest.raises(UserError, match=r"data\.json.*no JSON.*Restore"):
        store_of_run(tmp_path)
    (tmp_path / "repair-1").mkdir()
    (tmp_path / "repair-1" / ROUND_FILE).write_bytes(b"")
    with pytest.raises(UserError, match=r"round\.json"):
        latest(tmp_path)


def test_the_latest_round_is_the_last_that_changed_something(tmp_path) -> None:
    assert latest(tmp_path) == tmp_path
    for number, repaired in ((1, True), (2, True), (10, True), (11, False)):
        folder = tmp_path / f"repair-{number}"
        folder.mkdir()
        (folder / ROUND_FILE).write_text(json.dumps({"repaired": repaired}))
    (tmp_path / "repair-12").mkdir()  # begun, not finished
    assert [folder.name for folder in rounds(tmp_path)] == ["repair-1", "repair-2", "repair-10", "repair-11"]
    assert latest(tmp_path).name == "repair-10"
