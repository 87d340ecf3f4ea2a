"""A run drives an arm: its task, its policy and its engine, with a camera, a servo and a store."""

from w4rl_fast.control.config import ControlConfig
from w4rl_fast.control.policy import handling_of
from w4rl_fast.control.session import ROBOT_STORE, Told, control
from w4rl_fast.control.stage import Looks, begin_of

__all__ = ["ROBOT_STORE", "ControlConfig", "Looks", "Told", "begin_of", "control", "handling_of"]
