"""When the classifier may say success: chosen on episodes it did not learn from, for a stated false-positive rate."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from w4rl_fast.reward.config import Rule

Probabilities = NDArray[np.float64]
THRESHOLDS = np.unique(np.concatenate([np.arange(0.02, 1, 0.02), 1 - np.logspace(-2, -6, 17)]))


@dataclass(frozen=True, kw_only=True, slots=True)
class Choice:
    """The rule, and what it does on the episodes it was chosen on: rates per episode, of n."""

    rule: Rule
    false_positive_rate: float
    recall: float
    failures: int
    successes: int


def says_success(probabilities: Probabilities, rule: Rule) -> NDArray[np.bool_]:
    """Whether each episode (E, H) has `hits` probabilities in a row at the threshold or above."""
    above = probabilities >= rule.threshold
    run = np.zeros(len(above), np.int64)
    found = np.zeros(len(above), np.bool_)
    for column in above.T:
        run = (run + 1) * column
        found |= run >= rule.hits
    return found


def choose_rule(
    groups: list[tuple[Probabilities, NDArray[np.bool_]]], *, most_false: float, hits: tuple[int, ...] = (1, 2, 3)
) -> Choice:
    """The rule with the highest recall whose rate of false successes is at most `most_false` in every group.

    Each group is probabilities (E, H) and outcomes (E,): real episodes, imagined ones. Among thresholds that are as
    good as the best the middle one is taken, since it is the farthest from either mistake. If no rule is strict
    enough, the one with the fewest false successes is given, and `false_positive_rate` says so.
    """
    rated = []
    for count in hits:
        for threshold in THRESHOLDS:
            rule = Rule(threshold=float(threshold), hits=count)
            false = max(rate(says_success(p, rule), ~real) for p, real in groups)
            recall = min(rate(says_success(p, rule), real) for p, real in groups)
            rated.append((max(false - most_false, 0.0), -round(recall, 4), rule, false, recall))
    best = min(entry[:2] for entry in rated)
    equal = [entry for entry in rated if entry[:2] == best]
    longest = max(hits, key=lambda count: (sum(entry[2].hits == count for entry in equal), -count))
    equal = [entry for entry in equal if entry[2].hits == longest]
    _, _, rule, false, recall = equal[len(equal) // 2]
    outcomes = np.concatenate([real for _, real in groups])
    return Choice(
        rule=rule, false_positive_rate=false, recall=recall, failures=int((~outcomes).sum()),
        successes=int(outcomes.sum()),
    )  # fmt: skip


def rate(said: NDArray[np.bool_], among: NDArray[np.bool_]) -> float:
    return float(said[among].mean()) if among.any() else 0.0


def calibrate(logits: NDArray[np.float64], success: NDArray[np.bool_], rounds: int = 50) -> tuple[float, float]:
    """Scale and shift of logits (N,) that make them log-odds of these labels: logistic regression by Newton's method.

    A weak pull towards 1 and 0 keeps them finite where the labels can be told apart without a mistake.
    """
    features = np.stack([logits, np.ones_like(logits)], axis=1)
    weights, start = np.array([1.0, 0.0]), np.array([1.0, 0.0])
    for _ in range(rounds):
        chance = sigmoid(features @ weights)
        slope = features.T @ (chance - success) + (weights - start)
        bend = (features * (chance * (1 - chance))[:, None]).T @ features + np.eye(2)
        weights = weights - np.linalg.solve(bend, slope)
    return float(weights[0]), float(weights[1])


def sigmoid(x: NDArray[np.float64]) -> NDArray[np.float64]:
    return np.asarray(1 / (1 + np.exp(-x.clip(-50, 50))))
