"""The policy of a run on disk."""

import hashlib
from pathlib import Path

from w4rl_fast.errors import UserError
from w4rl_fast.hub import write_model
from w4rl_fast.policy.gaussian import GaussianPolicy

WEIGHTS = GaussianPolicy.weights_file


def save_policy(folder: Path, policy: GaussianPolicy) -> None:
    """Write the two files of `GaussianPolicy.save_pretrained`, without a model card."""
    write_model(folder, policy)


def load_policy(run: Path) -> GaussianPolicy:
    """Load the policy of a run (RUN/policy), or from the folder itself."""
    return GaussianPolicy.from_pretrained(policy_folder(run))


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
