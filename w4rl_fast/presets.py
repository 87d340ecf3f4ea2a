"""Presets: functions that return a full config."""

from w4rl_fast.data.collect import CollectConfig


def quickstart_data(seed: int, workers: int) -> CollectConfig:
    """What a robot owner could record in an afternoon: demonstrations, disturbed ones, and random motion."""
    return CollectConfig(expert=20, noisy=20, random=5, noise=0.5, bias=0.1, seed=seed, workers=workers)
