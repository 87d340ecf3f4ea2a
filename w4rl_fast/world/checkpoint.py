"""The world of a run on disk."""

from pathlib import Path

from w4rl_fast.errors import UserError
from w4rl_fast.hub import write_model
from w4rl_fast.world.model import WorldModel

WEIGHTS = WorldModel.weights_file


def save_world(folder: Path, model: WorldModel) -> None:
    """Write the two files of `WorldModel.save_pretrained`, without a model card."""
    write_model(folder, model)


def load_world(run: Path) -> WorldModel:
    """Load the world of a run (RUN/world), or from the folder itself; weights that do not fit are named."""
    folder = next((f for f in (run / "world", run) if (f / WEIGHTS).exists()), None)
    if folder is None:
        raise UserError(
            f"run {run}", rule=f"there is no trained world in it ({WEIGHTS})", remedy="Run `w4rl train world` first"
        )
    return WorldModel.from_pretrained(folder)
