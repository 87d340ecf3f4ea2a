"""Policies side by side: real and imagined success, and what each gained."""

from collections.abc import Mapping

from w4rl_fast.refine.proof import Judgement
from w4rl_fast.truth.paired import Paired

HEAD = ("policy", "real success", "95 %", "in the dream", "gap", "gained", "p")


def policy_rows(
    judged: Mapping[str, Judgement], compared: Mapping[str, Paired]
) -> tuple[tuple[str, ...], list[list[str]]]:
    """Head and rows of a table, one row a policy."""
    return HEAD, [row_of(name, each, compared.get(name)) for name, each in judged.items()]


def row_of(name: str, each: Judgement, gain: Paired | None) -> list[str]:
    share = each.real.share
    return [
        name,
        f"{share.successes / share.episodes:.1%} ({share.successes} of {share.episodes})",
        f"{100 * share.low:.1f} to {share.high:.1%}",
        "" if each.imagined is None else f"{each.imagined.successes / each.imagined.episodes:.1%}",
        "" if each.gap is None else f"{100 * each.gap:+.1f}",
        "" if gain is None else f"{100 * gain.difference:+.1f} (+{gain.gained}, -{gain.lost})",
        "" if gain is None else f"{gain.p:.1g}",
    ]
