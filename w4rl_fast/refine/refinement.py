"""What every way to refine a policy has in common: it goes iteration by iteration, keeps its best, and can be left."""

import copy
import math
from abc import ABC, abstractmethod
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Protocol

import torch
from torch import Tensor

from w4rl_fast.config import to_json_dict
from w4rl_fast.errors import UserError
from w4rl_fast.hub import write_model
from w4rl_fast.policy.gaussian import GaussianPolicy
from w4rl_fast.refine import checkpoint
from w4rl_fast.refine.checkpoint import Kept

FACTS = ("iteration", "best_iteration", "best_score", "best_worth", "away")


class RefinementConfig(Protocol):
    """What the loop around a refinement asks of its settings."""

    @property
    def iterations(self) -> int: ...

    @property
    def std(self) -> float: ...

    @property
    def final_rate(self) -> float: ...

    @property
    def score_every(self) -> int: ...

    @property
    def enough(self) -> float: ...

    @property
    def caution(self) -> float: ...

    @property
    def save_seconds(self) -> float: ...


class Refinement(ABC):
    """A refinement that can be left after any iteration and taken up again; all it draws depends on the iteration.

    The given policy is the clone: it is copied, never changed. `origin` names what the worlds were made from, such as
    a digest of their weights: a checkpoint of another origin, another clone or other settings is refused.
    """

    config: RefinementConfig

    def __init__(self, clone: GaussianPolicy, config: Any, folder: Path, *, origin: str = "") -> None:
        self.config, self.folder = config, folder
        self.policy = explorer(clone, config.std)
        self.iteration, self.best_iteration = 0, 0
        self.best_score: float | None = None
        self.best_worth: float | None = None
        self.away = 0.0
        """How far the policy is from the clone, in nats."""
        self._identity = {"config": to_json_dict(config), "clone": checkpoint.digest(clone), "origin": origin}
        folder.mkdir(parents=True, exist_ok=True)

    @abstractmethod
    def iterate(self) -> dict[str, float]:
        """Imagine once and learn from it; returns the figures of this iteration."""

    @property
    @abstractmethod
    def kept(self) -> Mapping[str, Kept]:
        """Everything that learns or remembers."""

    @abstractmethod
    def save_networks(self) -> None:
        """Write what is worth having beside the policies."""

    def is_due(self) -> bool:
        """Whether the policy is judged after this iteration."""
        return self.iteration % self.config.score_every == 0 or self.iteration == self.config.iterations

    def keep_best(self, score: float) -> bool:
        """Keep the policy as it is now in `folder/best` if it is worth more than all before; says whether it is."""
        self._require_finite(score=score)
        worth = score - self.config.caution * self.away
        if self.best_worth is not None and worth <= self.best_worth:
            return False
        self.best_score, self.best_worth, self.best_iteration = score, worth, self.iteration
        write_model(self.folder / "best", self.policy)
        return True

    def save(self) -> None:
        """Publish everything that the rest of the refinement depends on."""
        facts = {name: getattr(self, name) for name in FACTS}
        checkpoint.save(self.folder / checkpoint.CHECKPOINT, self.kept, self._identity, facts)

    def take_up(self) -> None:
        """Go on where a refinement in this folder was left, if one was."""
        if not (self.folder / checkpoint.CHECKPOINT).exists():
            return
        facts = checkpoint.load(self.folder / checkpoint.CHECKPOINT, self.kept, self._identity)
        for name in FACTS:
            setattr(self, name, facts[name])

    def _rate(self) -> float:
        """Share of the learning rates that is left in this iteration."""
        return 1 - (1 - self.config.final_rate) * self.iteration / self.config.iterations

    @torch.no_grad()
    def _bound_std(self) -> None:
        """Past its bounds the deviation would have no gradient any more, and stay there."""
        bounds = self.policy.config
        self.policy.log_std.clamp_(math.log(bounds.std_low), math.log(bounds.std_high))

    def _require_finite(self, **quantities: float | Tensor) -> None:
        for name, quantity in quantities.items():
            if not torch.as_tensor(quantity).isfinite().all():
                raise UserError(
                    f"{name} is not finite in iteration {self.iteration} of the refinement",
                    rule=f"what is learnt from is finite; the checkpoint in {self.folder} is from before",
                    remedy="Look at what the world imagines, or lower learning_rate",
                )


def explorer(clone: GaussianPolicy, std: float) -> GaussianPolicy:
    """A copy of the cloned policy that explores with this deviation."""
    bounds = clone.config
    if not bounds.std_low <= std <= bounds.std_high:
        raise UserError(
            f"std={std}",
            rule=f"the policy keeps its deviation between {bounds.std_low} and {bounds.std_high}",
            remedy="Choose std within these, or clone with other std_low and std_high",
        )
    policy = copy.deepcopy(clone).eval()
    with torch.no_grad():
        policy.log_std.fill_(math.log(std))
    return policy
