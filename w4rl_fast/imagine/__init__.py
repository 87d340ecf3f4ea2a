"""Imagined worlds: many at once, on the device, each a function of its own seed and actions."""

from w4rl_fast.imagine.engine import Imagination
from w4rl_fast.imagine.load import LoadedRun
from w4rl_fast.imagine.memory import MemoryPlan, fits, memory_plan
from w4rl_fast.imagine.rollout import Rollout, Rollouts
from w4rl_fast.imagine.starts import StartConfig, Starts, load_starts
from w4rl_fast.imagine.step import WorldStep
from w4rl_fast.imagine.worlds import ImaginationConfig, Observation, Outcome, Worlds

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
    "Worlds",
    "fits",
    "load_starts",
    "memory_plan",
]
