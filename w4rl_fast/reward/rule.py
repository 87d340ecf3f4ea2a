"""When the classifier may say success: chosen on episodes it did not learn from, for a stated false-positive rate."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from w4rl_fast.reward.config import Rule

Probabilities = NDArray[np.float64]
THRESHOLDS = np.unique(np.concatenate([np.arange(0.02, 1, 0.02), 1 - np.logspace(-2, -6, 17)]))


@dataclass(frozen=True, slots=True)
class Group:
    """Episodes to choose on: probabilities (E, H), outcomes (E,), and the rate of false successes to keep to."""

    said: Probabilities
    real: NDArray[np.bool_]
    most_false: float


@dataclass(frozen=True, kw_only=True, slots=True)
class Choice:
    """The rule, and what it does on each group it was chosen on; `strict` if every group keeps to its rate.

    Rates are of the failing and of the successful episodes of a group, whose numbers are beside them.
    """

    rule: Rule
    strict: bool
    false_positive_rate: tuple[float, ...]
    recall: tuple[float, ...]
    failures: tuple[int, ...]
    successes: tuple[int, ...]


def says_success(probabilities: Probabilities, rule: Rule) -> NDArray[np.bool_]:
    """Whether each episode (E, H) has `hits` probabilities in a row at the threshold or above."""
    above = probabilities >= rule.threshold
    run = np.zeros(len(above), np.int64)
    found = np.zeros(len(above), np.bool_)
    for column in above.T:
        run = (run + 1) * column
        found |= run >= rule.hits
    return found


def choose_rule(groups: Sequence[Group], *, hits: tuple[int, ...] = (1, 2, 3)) -> Choice:
    """The rule with the highest recall, in its worst group, whose false successes keep to the rate of every group.

    Among thresholds that are as good as the best the middle one is taken, since it is the farthest from either
    mistake. If no rule is strict enough, the one that exceeds the rates least is given, and says so.
    """
    rated: list[tuple[float, float, Rule]] = []
    for count in hits:
        for threshold in THRESHOLDS:
            rule = Rule(threshold=float(threshold), hits=count)
            said = [says_success(group.said, rule) for group in groups]
            excess = max(rate(s, ~g.real) - g.most_false for s, g in zip(said, groups, strict=True))
            recall = min(rate(s, g.real) for s, g in zip(said, groups, strict=True))
            rated.append((max(excess, 0.0), -round(recall, 4), rule))
    best = min(entry[:2] for entry in rated)
    equal = [rule for excess, recall, rule in rated if (excess, recall) == best]
    most_common = max(hits, key=lambda count: (sum(rule.hits == count for rule in equal), -count))
    equal = [rule for rule in equal if rule.hits == most_common]
    return describe(equal[len(equal) // 2], groups, strict=best[0] == 0)


def describe(rule: Rule, groups: Sequence[Group], *, strict: bool) -> Choice:
    said = [says_success(group.said, rule) for group in groups]
    pairs = list(zip(said, groups, strict=True))
    return Choice(
        rule=rule,
        strict=strict,
        false_positive_rate=tuple(rate(s, ~g.real) for s, g in pairs),
        recall=tuple(rate(s, g.real) for s, g in pairs),
        failures=tuple(int((~g.real).sum()) for g in groups),
        successes=tuple(int(g.real.sum()) for g in groups),
    )


def rate(said: NDArray[np.bool_], among: NDArray[np.bool_]) -> float:
    return float(said[among].mean()) if among.any() else 0.0


def calibrate(logits: NDArray[np.float64], success: NDArray[np.bool_], rounds: int = 50) -> tuple[float, float]:
    """Scale and shift of logits (N,) that make them log-odds of these labels: logistic regression by Newton's method.

    A weak pull towards 1 and 0 keeps them finite where the labels can be told apart without a mistake. A step that
    leads uphill is halved until it does not: where all logits are far on one side, a whole one leads anywhere.
    """
    features = np.stack([logits, np.ones_like(logits)], axis=1)
    start = np.array([1.0, 0.0])

    def loss(weights: NDArray[np.float64]) -> float:
        odds = features @ weights
        return float((np.logaddexp(0, odds) - success * odds).sum() + 0.5 * ((weights - start) ** 2).sum())

    weights = start
    for _ in range(rounds):
        chance = sigmoid(features @ weights)
        slope = features.T @ (chance - success) + (weights - start)
        bend = (features * (chance * (1 - chance))[:, None]).T @ features + np.eye(2)
        step, now = np.linalg.solve(bend, slope), loss(weights)
        tries = (weights - step * 0.5**number for number in range(HALVINGS))
        weights = next((each for each in tries if loss(each) < now), weights)
    return float(weights[0]), float(weights[1])


HALVINGS = 60
"""Of a step of Newton's, before it is none."""


def sigmoid(x: NDArray[np.float64]) -> NDArray[np.float64]:
    return np.asarray(1 / (1 + np.exp(-x.clip(-50, 50))))
