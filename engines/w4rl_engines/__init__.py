"""Engines that run one step of any module fast."""

from w4rl_engines.registry import BACKENDS, Backend, available, cannot_build, cannot_run, unavailable, version

__all__ = ["BACKENDS", "Backend", "available", "cannot_build", "cannot_run", "unavailable", "version"]
