"""Which world of a run a policy is refined in: a student that has passed its gate, or the teacher."""

from pathlib import Path

from w4rl_fast.distill.folder import STUDENTS, students_of
from w4rl_fast.errors import UserError
from w4rl_fast.files import read_json
from w4rl_fast.truth.gate import GATE, judge_digest, objection

FASTER = 0.9
"""A student that takes less than this share of the teacher's time is faster; times are not known better."""


def fastest_fit(run: Path) -> str | None:
    """The name of the student that is fit for refinement and takes the least time a frame; None if there is none that
    is faster than the teacher, or sharper.
    """
    gates = {each.name: read_json(each / GATE) for each in students_of(run) if is_fit(run, each)}
    shares = {
        name: float(gate["time_share"])
        for name, gate in gates.items()
        if gate["time_share"] < FASTER or gate["sharper"]
    }
    return min(shares, key=lambda name: shares[name], default=None)


def student_folder(run: Path, name: str) -> Path:
    """The folder of a finished student; one that has another classifier than its run is refused."""
    students = {each.name: each for each in students_of(run)}
    if name not in students:
        raise UserError(
            f"student {name}",
            rule=f"{run / STUDENTS} has {', '.join(students) or 'none'}",
            remedy=f"Choose one of them, or make one with `w4rl distill {run}`",
        )
    if not has_same_judge(run, students[name]):
        raise UserError(
            f"student {name}",
            rule="the classifier of its run has been trained since",
            remedy=f"Run `w4rl evaluate world {run} --compare`: it judges every student again",
        )
    return students[name]


def is_fit(run: Path, student: Path) -> bool:
    """Whether a student has passed its gate, with the classifier that its run has now."""
    return objection(student) is None and has_same_judge(run, student)


def has_same_judge(run: Path, student: Path) -> bool:
    return judge_digest(run) == judge_digest(student)
