"""The whole job, small enough to wait for: every stage, its summary and its page; and once more from where it was."""

import json

import pytest
from click.testing import CliRunner

from w4rl_fast.cli import main

SMALL = ["--minutes", "1", "--workers", "1", "--set", "rollouts=[[40,0.5,0.15],[20,0.1,0.0]]", "--set", "random=20",
         "--set", "episodes=10", "--set", "repair_rollouts=4"]  # fmt: skip


@pytest.mark.slow
def test_the_quickstart_does_everything_and_goes_on_where_it_was(tmp_path) -> None:
    pytest.importorskip("metaworld")
    weights = []
    for _ in range(2):
        result = CliRunner().invoke(main, ["quickstart", "--out", str(tmp_path / "run"), *SMALL])
        assert result.exit_code == 0, result.output
        weights.append((tmp_path / "run" / "refined" / "best" / "policy.safetensors").read_bytes())
    assert weights[0] == weights[1]
    summary = json.loads((tmp_path / "run" / "summary.json").read_text())
    assert [stage["name"] for stage in summary["stages"]][-1] == "prove"
    for name, episodes in (("before", 10), ("after", 10), ("imagined_after", 128)):
        assert summary[name]["episodes"] == episodes
        assert 0 <= summary[name]["low"] <= summary[name]["successes"] / episodes <= summary[name]["high"] <= 1
    assert 0 <= summary["p_paired"] <= 1
    assert summary["real_steps"] == {"expert": 40, "policy": 1200, "random": 400, "repair": 80, "all": 1720}
    assert list(summary["policies"])[:2] == ["cloned", "refined"]
    for other, said in (("--seed", "another seed"), ("--repair", "rounds of repair behind it")):
        value = "1" if other == "--seed" else "0"
        refused = CliRunner().invoke(main, ["quickstart", "--out", str(tmp_path / "run"), *SMALL, other, value])
        assert refused.exit_code == 2
        assert said in refused.output
    assert "Real success after" in (tmp_path / "run" / "report.html").read_text()
