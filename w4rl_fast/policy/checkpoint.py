"""A policy on disk: safetensors and JSON, never pickle."""

import hashlib
from pathlib import Path

from w4rl_fast.config import load_config, save_config
from w4rl_fast.errors import UserError
from w4rl_fast.files import publish
from w4rl_fast.policy.gaussian import GaussianPolicy, PolicyConfig

WEIGHTS, CONFIG = "policy.safetensors", "config.json"


def save_policy(folder: Path, policy: GaussianPolicy) -> None:
    """Write the policy into a folder, weights last: a folder with weights is complete."""
    from safetensors.torch import save

    folder.mkdir(parents=True, exist_ok=True)
    save_config(folder / CONFIG, policy.config)
    state = {name: tensor.contiguous().cpu() for name, tensor in policy.state_dict().items()}
    publish(folder / WEIGHTS, save(state))


def load_policy(run: Path) -> GaussianPolicy:
    """Load the policy of a run (RUN/policy), or from the folder itself."""
    from safetensors.torch import load

    folder = policy_folder(run)
    policy = GaussianPolicy(load_config(folder / CONFIG, PolicyConfig))
    try:
        state = load((folder / WEIGHTS).read_bytes())
        policy.load_state_dict(state)
    except Exception as error:
        raise UserError(
            f"policy {folder / WEIGHTS}",
            rule=f"its weights do not fit its config: {str(error).splitlines()[0]}",
            remedy="Train the policy again, or restore the file from a copy",
        ) from error
    return policy.eval()


def policy_digest(run: Path) -> str:
    """A short name of the weights of a run's policy."""
    return hashlib.sha256((policy_folder(run) / WEIGHTS).read_bytes()).hexdigest()[:12]


def policy_folder(run: Path) -> Path:
    for folder in (run / "policy", run):
        if (folder / WEIGHTS).exists():
            return folder
    raise UserError(
        f"run {run}",
        rule=f"there is no policy in it ({WEIGHTS} in the folder or in its policy folder)",
        remedy="Give a run with a trained policy",
    )
