"""Imagined worlds: many at once, on the device, each a function of its own seed and actions."""

from w4rl_fast.imagine.engine import Imagination, ImaginationConfig, Observation, Outcome
from w4rl_fast.imagine.load import LoadedRun
from w4rl_fast.imagine.memory import MemoryPlan, fits, memory_plan
from w4rl_fast.imagine.rollout import Rollout, Rollouts
from w4rl_fast.imagine.starts import StartConfig, Starts, load_starts
from w4rl_fast.imagine.step import WorldStep

__all__ = [
    "Imagination",
    "ImaginationConfig",
    "LoadedRun",
    "MemoryPlan",
    "Observation",
    "Outcome",
    "Rollout",
    "Rollouts",
    "StartConfig",
    "Starts",
    "WorldStep",
    "fits",
    "load_starts",
    "memory_plan",
]
