"""A world on disk: safetensors and JSON, never pickle."""

from pathlib import Path

from w4rl_fast.config import load_config, save_config
from w4rl_fast.errors import UserError
from w4rl_fast.files import publish
from w4rl_fast.world.config import WorldConfig
from w4rl_fast.world.model import WorldModel

WEIGHTS, CONFIG = "world.safetensors", "config.json"


def save_world(folder: Path, model: WorldModel) -> None:
    """Write the model into a folder, weights last: a folder with weights is complete."""
    from safetensors.torch import save

    folder.mkdir(parents=True, exist_ok=True)
    save_config(folder / CONFIG, model.config)
    publish(folder / WEIGHTS, save({name: value.contiguous() for name, value in model.state_dict().items()}))


def load_world(run: Path) -> WorldModel:
    """Load the world of a run (RUN/world), or from the folder itself; weights that do not fit are named."""
    from safetensors.torch import load

    folder = next((f for f in (run / "world", run) if (f / WEIGHTS).exists()), None)
    if folder is None:
        raise UserError(
            f"run {run}", rule=f"there is no trained world in it ({WEIGHTS})", remedy="Run `w4rl train world` first"
        )
    model = WorldModel(load_config(folder / CONFIG, WorldConfig))
    try:
        state = load((folder / WEIGHTS).read_bytes())
    except Exception as error:
        raise UserError(
            f"world {folder / WEIGHTS}", rule=f"it cannot be read: {error}", remedy="Restore it from a copy"
        ) from error
    wanted = model.state_dict()
    misfits = [name for name in wanted if name not in state or state[name].shape != wanted[name].shape]
    foreign = [name for name in state if name not in wanted]
    if misfits or foreign:
        raise UserError(
            f"world {folder / WEIGHTS}",
            rule=f"it is of another preset (missing or misshapen {misfits[:3]}, unknown {foreign[:3]})",
            remedy=f"Give the {CONFIG} it was trained with",
        )
    model.load_state_dict(state)
    return model.eval()
