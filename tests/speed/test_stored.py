"""Then and now: only results of one machine are compared, case by case."""

import json

import pytest

from w4rl_fast.errors import UserError
from w4rl_fast.speed.stored import changes, in_words, other_versions, read_before

CARD = {"cpu": "one", "physical_cores": 2, "memory_bytes": 8, "torch_threads": 1, "packages": {"torch": "2.13.0"}}
ROW = {"engine": "eager", "steps": 3, "speed": 100.0}


def write(path, **changed):
    path.write_text(json.dumps({"rows": [ROW], "environment": {**CARD, **changed}}))
    return path


def test_a_result_of_this_machine_is_read_back(tmp_path) -> None:
    assert read_before(write(tmp_path / "r.json", packages={}), CARD)["rows"] == [ROW]


@pytest.mark.parametrize("name", ["cpu", "physical_cores", "memory_bytes", "torch_threads", "gpus"])
def test_one_of_another_machine_is_refused_and_says_what_differs(tmp_path, name) -> None:
    with pytest.raises(UserError, match=f"{name} other for"):
        read_before(write(tmp_path / "r.json", **{name: "other"}), CARD)


@pytest.mark.parametrize("content", ["[]", "{}", '{"rows": [], "environment": {}}', "no json"])
def test_what_is_no_result_is_refused(tmp_path, content) -> None:
    (tmp_path / "r.json").write_text(content)
    with pytest.raises(UserError):
        read_before(tmp_path / "r.json", CARD)


def test_a_result_of_another_benchmark_is_refused_before_anything_is_measured(tmp_path) -> None:
    with pytest.raises(UserError, match="no result of a benchmark"):
        read_before(write(tmp_path / "r.json"), CARD, ("engine", "artifact"))


def test_cases_are_compared_by_their_key_and_new_ones_left_out() -> None:
    now = [{**ROW, "speed": 150.0}, {**ROW, "engine": "openvino"}, {**ROW, "steps": 1, "speed": 1.0}]
    before = [ROW, {**ROW, "steps": 1, "speed": 1.02}]
    found = changes(before, now, ("engine", "steps"), "speed")
    assert [(each.case, each.ratio, each.verdict) for each in found] == [
        ("eager 3", 1.5, "faster"),
        ("eager 1", pytest.approx(1 / 1.02), "the same"),
    ]
    words = in_words(found, other_versions(CARD, {**CARD, "packages": {"torch": "2.14.0"}}))
    assert "1.50x  faster" in words
    assert "torch: 2.13.0 then, 2.14.0 now" in words
