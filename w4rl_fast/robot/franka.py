"""A Franka arm through libfranka: joint positions every millisecond over its network interface (FCI)."""

from collections.abc import Iterator
from typing import Any

import numpy as np
from numpy.typing import NDArray

from w4rl_fast.errors import MissingExtra, UserError
from w4rl_fast.robot.line import Reflex, Service
from w4rl_fast.robot.protocol import TICK


def require_libfranka() -> Any:
    try:
        import pylibfranka
    except ModuleNotFoundError as error:
        raise MissingExtra("pylibfranka", extra="robot") from error
    except ImportError as error:
        raise UserError(
            "pylibfranka", rule=f"it does not load here: {error}", remedy="It needs Linux with glibc 2.34 or later"
        ) from error
    return pylibfranka


class FrankaLine:
    """One motion after another on one connection; a dry one only listens, and begins none."""

    def __init__(self, service: Service) -> None:
        assert service.host is not None
        host, self._dry = service.host, service.dry
        self._franka = franka = require_libfranka()
        modes = franka.RealtimeConfig
        config = modes.kIgnore if service.allow_non_realtime or self._dry else modes.kEnforce
        try:
            self._robot = franka.Robot(host, config)
            if not self._dry:
                self._robot.set_joint_impedance(list(service.setup.stiffness))
            if service.recover and not self._dry:
                self._robot.automatic_error_recovery()
        except franka.RealtimeException as error:
            raise UserError(
                f"this machine: {told(error)}",
                rule="an arm is not moved without it unless you say so: a tick may come milliseconds late",
                remedy="Boot a kernel with PREEMPT_RT, or give --allow-non-realtime",
            ) from error
        except RuntimeError as error:
            raise UserError(
                f"robot {host}",
                rule=f"it does not answer as one: {told(error)}",
                remedy="Check the address and the cable, that FCI is active in Desk, and that nobody else is connected",
            ) from error
        self._control: Any = None
        self._state: Any = None

    def begin(self) -> NDArray[np.float64]:
        franka = self._franka
        if self._dry:
            self._state = self._robot.read_once()
            return np.array(self._state.q_d)
        try:
            self._control = self._robot.start_joint_position_control(franka.ControllerMode.JointImpedance)
            self._state, _ = self._control.readOnce()
        except RuntimeError as error:
            raise UserError("the robot", rule=f"it does not begin to move: {told(error)}", remedy=REMEDY) from error
        return np.array(self._state.q_d)

    def ticks(self, driver: Any) -> Iterator[None]:
        """One tick for each state of the robot; the servo goes on by as many milliseconds as the robot counted."""
        franka, state, why, lost = self._franka, self._state, "", ""
        positions = franka.JointPositions
        elapsed = 1
        try:
            while True:
                driver.step(np.array(state.q), np.array(state.dq), 0.0, elapsed)
                yield
                if self._dry:
                    state = self._robot.read_once()
                    continue
                self._control.writeOnce(positions(driver.command.tolist()))
                state, duration = self._control.readOnce()
                elapsed = max(1, round(duration.to_sec() / TICK))
        except (franka.ControlException, franka.CommandException) as error:
            why = told(error)
        except RuntimeError as error:  # a NetworkException, or what its library throws without a name
            lost = told(error)
        self._control = None  # nothing may hold it, not even an exception, or the robot takes no other call
        if lost:
            raise UserError("the robot", rule=f"the connection is gone: {lost}", remedy="Check the cable, start again")
        raise Reflex(why)

    def finish(self, driver: Any) -> None:
        if self._dry:
            return
        last = self._franka.JointPositions(driver.command.tolist())
        last.motion_finished = True
        self._control.writeOnce(last)
        self._control = None

    def recover(self) -> None:
        self._control = None
        try:
            self._robot.automatic_error_recovery()
        except RuntimeError as error:
            raise UserError("the robot", rule=f"it does not recover: {told(error)}", remedy=REMEDY) from error

    def close(self) -> None:
        self._control = None


def told(error: Exception) -> str:
    return str(error).strip().rstrip(".")


REMEDY = "Look at the arm and at Desk: unlock the joints, release the stop button; if it stopped itself, give --recover"
