"""The gate: may a policy be refined in a few-step student, or is it less true than its teacher?"""

import hashlib
import json
import warnings
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from w4rl_fast.config import to_json_dict
from w4rl_fast.errors import UserError
from w4rl_fast.files import publish
from w4rl_fast.hub import CONFIG
from w4rl_fast.reward import RewardModel
from w4rl_fast.reward.checkpoint import RULE
from w4rl_fast.truth.blend import Blend
from w4rl_fast.truth.failure import Confusion
from w4rl_fast.truth.fidelity import Fidelity
from w4rl_fast.world.model import WorldModel

ORIGIN, GATE = "distill.json", "gate.json"
"""How a run that is a student came to be, and what its gate said."""


@dataclass(frozen=True, kw_only=True, slots=True)
class GateConfig:
    """By how much a student may be worse than its teacher.

    `most_response_lost` of the action response; `most_agreement_lost` and `most_false_gained` of the share of replays
    whose outcomes agree, and of failures that succeed in the dream. Where draws of the teacher differ by at least
    `stochastic` (of the range of a byte), those of the student differ by at least `least_spread` of that.
    """

    most_response_lost: float = 0.02
    most_agreement_lost: float = 0.03
    most_false_gained: float = 0.05
    stochastic: float = 0.05
    least_spread: float = 0.5


@dataclass(frozen=True, kw_only=True, slots=True)
class Truth:
    """What a world makes of held-out rollouts.

    `response` is the correlation of what other actions change in the last picture, imagined against the reference: 0
    for a world that ignores actions. `spread` is the deviation between draws of noise, on the pixels that move in the
    last picture, as a share of the range of a byte. `failure` is over replays, `blend` over frames of contact.
    """

    fidelity: Fidelity
    failure: Confusion
    response: float
    spread: float
    blend: Blend | None


def complaints(student: Truth, teacher: Truth, limits: GateConfig) -> tuple[str, ...]:
    """Where a student is worse than its teacher by more than it may, in words."""
    mine, theirs = student.failure, teacher.failure
    checks = (
        (
            teacher.response - student.response > limits.most_response_lost,
            f"action response {student.response:.3f} (teacher {teacher.response:.3f})",
        ),
        (
            theirs.agreement - mine.agreement > limits.most_agreement_lost,
            f"{mine.agreement:.1%} of the outcomes agree (teacher {theirs.agreement:.1%})",
        ),
        (
            mine.false_success_rate - theirs.false_success_rate > limits.most_false_gained,
            f"{mine.false_success_rate:.1%} of the failures succeed (teacher {theirs.false_success_rate:.1%})",
        ),
        (
            teacher.spread >= limits.stochastic and student.spread < limits.least_spread * teacher.spread,
            f"draws of noise differ by {student.spread:.3f} (teacher {teacher.spread:.3f})",
        ),
    )
    return tuple(said for broken, said in checks if broken)


def keep_gate(
    run: Path, why: tuple[str, ...], student: Truth, teacher: Truth, limits: GateConfig, *, time_share: float,
    sharper: bool,
) -> None:  # fmt: skip
    """Write what the gate says of a student, for exactly the weights that it and its classifier have now; a frame of it
    takes `time_share` of its teacher's time, and it is `sharper` if its last pictures are, beyond chance.
    """
    said = {
        "fit": not why,
        "why": list(why),
        "judged": judged_digest(run),
        "time_share": time_share,
        "sharper": sharper,
        "limits": to_json_dict(limits),
        "student": to_json_dict(student),
        "teacher": to_json_dict(teacher),
    }
    publish(run / GATE, json.dumps(said, indent=2).encode())


def objection(run: Path) -> str | None:
    """Why no policy should be refined in this run, where it is a student; None where it is none, or has passed."""
    if not (run / ORIGIN).exists():
        return None
    said = standing_gate(run)
    if said is None:
        return "it is a student that no gate has judged as it is now"
    return None if said["fit"] else f"it is a student not fit for refinement: {'; '.join(said['why'])}"


def standing_gate(run: Path) -> dict[str, Any] | None:
    """What the gate said of exactly these weights, if it was asked."""
    try:
        said: dict[str, Any] = json.loads((run / GATE).read_bytes())
        return said if said["judged"] == judged_digest(run) else None
    except (OSError, ValueError, KeyError):  # it is judged again
        return None


def require_passed(run: Path, *, force: bool = False) -> None:
    """Refuse to refine in a student that has not passed its gate; if forced, warn."""
    why = objection(run)
    if why is None:
        return
    if not force:
        raise UserError(
            f"the world of {run}",
            rule=why,
            remedy=f"Run `w4rl evaluate world {run.parent.parent} --compare`; refine in the teacher or another student,"
            " or add --force",
        )
    warnings.warn(f"refining in a world that did not pass its gate: {why}", stacklevel=3)


def world_digest(run: Path) -> str:
    """A short name of the world of a run: its weights and its config."""
    return digest_of(run / "world" / WorldModel.weights_file, run / "world" / CONFIG)


def judged_digest(run: Path) -> str:
    """A short name of what a gate judges: the world of a run as its classifier sees it."""
    return f"{world_digest(run)} {judge_digest(run)}"


def judge_digest(run: Path) -> str:
    """A short name of the classifier of a run: its weights, its config and its rule."""
    return digest_of(*(run / "reward" / name for name in (RewardModel.weights_file, CONFIG, RULE)))


def digest_of(*paths: Path) -> str:
    return hashlib.sha256(b"".join(path.read_bytes() for path in paths)).hexdigest()[:16]
