"""The classifier of a run on disk, and its rule."""

from pathlib import Path

import torch

from w4rl_fast.config import load_config, save_config
from w4rl_fast.errors import UserError
from w4rl_fast.hub import write_model
from w4rl_fast.reward.config import RewardConfig, Rule
from w4rl_fast.reward.model import RewardModel

WEIGHTS, RULE = RewardModel.weights_file, "rule.json"


def save_reward(folder: Path, model: RewardModel, rule: Rule) -> None:
    """Write the rule, then the two files of `RewardModel.save_pretrained`: a folder with weights is complete."""
    folder.mkdir(parents=True, exist_ok=True)
    save_config(folder / RULE, rule)
    write_model(folder, model)


def has_reward(run: Path) -> bool:
    return any((folder / WEIGHTS).exists() for folder in (run / "reward", run))


def never(image_size: int) -> tuple[RewardModel, Rule]:
    """A classifier that nothing convinces, for worlds in which nobody looks for success."""
    model = RewardModel(RewardConfig(image_size=image_size, anchor=False, widths=(1,), hidden=1))
    with torch.no_grad():
        for weight in model.parameters():
            weight.zero_()
    model.shift.fill_(-NEVER)
    return model.eval(), Rule()


NEVER = 20.0
"""Log-odds against success."""


def load_reward(run: Path) -> tuple[RewardModel, Rule]:
    """The classifier of a run (RUN/reward), or of the folder itself, and when it says success."""
    folder = next((f for f in (run / "reward", run) if (f / WEIGHTS).exists()), None)
    if folder is None:
        raise UserError(
            f"run {run}", rule=f"there is no classifier in it ({WEIGHTS})", remedy="Run `w4rl train reward` first"
        )
    return RewardModel.from_pretrained(folder), load_config(folder / RULE, Rule)
