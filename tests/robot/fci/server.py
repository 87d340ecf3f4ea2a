"""A Franka arm's control interface on loopback that refuses what the real one refuses.

| error | raised when |
|---|---|
| `communication_constraints_violation` | 20 ticks of a motion in a row brought no new command |
| `joint_position_motion_generator_start_pose_invalid` | the first command cannot be reached from the arm at rest |
| `joint_motion_generator_position_limits_violation` | a commanded position is out of range |
| `joint_motion_generator_velocity_limits_violation` | a commanded velocity is |
| `joint_motion_generator_velocity_discontinuity` | a commanded acceleration is |
| `joint_motion_generator_acceleration_discontinuity` | a commanded jerk is, or a motion ends while moving |
| `tau_j_range_violation` | the plant's torque stood at its limit for 50 ticks in a row |

How commands are checked in spite of losses: see `Checker`. A lost command is replaced by constant acceleration.

| a real robot checks, this one does not | |
|---|---|
| contact and collision (`joint_reflex`, `cartesian_reflex`) | thresholds are taken and ignored |
| self-collision, Cartesian limits, elbow | no kinematics here |
| measured position and velocity (`joint_position_limits_violation`, `joint_velocity_violation`) | only commands are |
| power, torque rate, instability, base acceleration | their bounds are not published |
| velocity limits that depend on position (FR3) | one number a joint |
| velocity, torque and Cartesian commands | their Move is refused as not possible |
| the return to a path after a gap | what is held to the limits is the client's path, not the step back to it |

It also stops at once on a reflex or a stop, where a real arm brakes, and recovers at once.
"""

import time
from collections.abc import Callable

import numpy as np
from franky_sim.franka_robot_protocol import (
    AutomaticErrorRecoveryCommand,
    MoveCommand,
    MoveCommandControllerMode,
    MoveCommandMotionGeneratorMode,
    MoveStatus,
    RobotCommand,
    RobotMode,
    SetJointImpedanceCommand,
    StateControllerMode,
    StateMotionGeneratorMode,
    UDPCommand,
)
from franky_sim.franka_robot_server import FrankaRobotServer
from franky_sim.franka_server import BaseCommand

from tests.robot.fci.checker import Checker, Limits
from tests.robot.fci.errors import COMMUNICATION, TORQUE, flags
from tests.robot.fci.link import Link
from tests.robot.fci.plant import Plant
from tests.robot.fci.wire import Wire

MISSED_MAX = 20
SATURATED_MAX = 50
AT_REST = StateMotionGeneratorMode.kIdle, StateControllerMode.kOther


class Move(MoveCommand):
    """A request to move, refused in a reflex and in modes that are not checked."""

    def handle(self, server: "CheckingServer") -> None:
        if server.refuses(self):
            self.reply(MoveStatus.kCommandNotPossibleRejected)
        else:
            super().handle(server)


class Recovery(AutomaticErrorRecoveryCommand):
    """A request to leave a reflex."""

    def handle(self, server: "CheckingServer") -> None:
        server.recover()
        super().handle(server)


class Stiffness(SetJointImpedanceCommand):
    """A request to hold the joints more or less stiffly."""

    def handle(self, server: "CheckingServer") -> None:
        server.robot.hold(np.array(self.K_theta))
        super().handle(server)


class CheckingServer(FrankaRobotServer):
    """Serves one plant on a loopback address; `process_commands`, the plant's step and `send_state` make one tick.

    `tell` hears of every reflex and recovery as a dict. A command belongs to the tick whose state it answers, which
    its message id says; the id counts on where a state is lost.
    """

    def __init__(
        self, plant: Plant, hosts: list[str], limits: Limits, link: Link, tell: Callable[[dict], None] = lambda _: None
    ) -> None:
        super().__init__(plant, hosts)
        self.link, self.checker, self._tell = link, Checker(limits), tell
        self._torque = np.array(limits.torque)
        self.ticks = self.received = self.overtaken = self.missed = self.longest_missed = self.motions = 0
        self.longest_saturated = 0
        self.missed_at: list[float] = []
        self.correction = 0.0  # rad: the largest step from the arm's guess back to a command after a gap
        self.reflexes: list[dict] = []
        self._errors: tuple[str, ...] = ()
        self._flags, self._modes, self._wire = flags(()), AT_REST, Wire()
        self._id = self._run = self._saturated = 0
        self._fresh = False
        self._FrankaServer__command_class_map.update(
            {
                RobotCommand.kMove: Move,
                RobotCommand.kAutomaticErrorRecovery: Recovery,
                RobotCommand.kSetJointImpedance: Stiffness,
            }
        )

    @property
    def moving(self) -> bool:
        """Whether a motion is running."""
        return self.current_motion_id > 0

    def _setup_udp_connection(self, network_udp_port: int) -> None:
        super()._setup_udp_connection(network_udp_port)
        self.link.attach(self._FrankaServer__udp_socket)
        self._FrankaServer__udp_socket = self.link
        self._id = 0

    def send_state(self) -> None:
        super().send_state()
        self._id += self.udp_connected

    def refuses(self, command: MoveCommand) -> bool:
        """Whether a motion may not start now; libfranka has no status for a mode that is not served."""
        joints = command.motion_generator_mode == MoveCommandMotionGeneratorMode.kJointPosition
        external = command.controller_mode == MoveCommandControllerMode.kExternalController
        return bool(self._errors) or self.moving or external or not joints

    def start_motion(self, controller_mode, motion_generator_mode, motion_id) -> None:
        super().start_motion(controller_mode, motion_generator_mode, motion_id)
        self.checker.start(self.robot.q_d, self._id - 1)
        self._run, self._saturated, self._fresh = 0, 0, True  # no command can answer a state that was not sent yet
        self._modes = StateMotionGeneratorMode.kJointPosition, StateControllerMode(controller_mode)
        self.motions += 1

    def recover(self) -> None:
        """Leave a reflex."""
        if self._errors:
            self._tell({"event": "recovery", "tick": self.ticks})
        self._errors, self._flags = (), flags(())

    def _pre_process_commands(self) -> None:
        super()._pre_process_commands()
        self.ticks += 1
        self._fresh = False
        self.link.tick()

    def _process_udp_commands(self) -> None:
        while (data := self.link.command()) is not None:
            self._handle_udp_command(data)

    def _handle_udp_command(self, command_data: bytes) -> None:
        command = UDPCommand.from_bytes(command_data)
        if not self.moving:
            return
        if command.message_id <= self.checker.newest:
            self.overtaken += 1
            return
        self.received += 1
        self._fresh = True
        q = np.array(command.q_c)
        guess = self.checker.predict(self._run)[0] if self._run else None
        errors = self.checker.command(q, command.message_id)
        if not errors and command.motion_generation_finished:
            errors = self.checker.finish()
        if errors:
            self._reflex(errors)
            return
        if guess is not None:
            self.correction = max(self.correction, float(np.abs(guess - q).max()))
        self._run = 0
        if command.motion_generation_finished:
            self.robot.joint_position_control(q)
            super()._handle_udp_command(command_data)

    def _post_process_commands(self) -> None:
        if self.moving:
            self._watch()
        if self.moving:
            self.robot.follow(*self.checker.predict(self._run))
        else:
            super()._post_process_commands()

    def _watch(self) -> None:
        """Count missed commands and saturated torques."""
        self._run = 0 if self._fresh else self._run + 1
        if not self._fresh:
            self.missed += 1
            self.missed_at.append(round(time.perf_counter(), 4))
        self.longest_missed = max(self.longest_missed, self._run)
        self.robot.success_rate += 0.01 * (self._fresh - self.robot.success_rate)
        self._saturated = self._saturated + 1 if (np.abs(self.robot.tau_J) >= self._torque).any() else 0
        self.longest_saturated = max(self.longest_saturated, self._saturated)
        if self._run >= MISSED_MAX:
            self._reflex((COMMUNICATION,))
        elif self._saturated >= SATURATED_MAX:
            self._reflex((TORQUE,))

    def _reflex(self, errors: tuple[str, ...]) -> None:
        """Abort the motion and hold the arm until it is told to recover."""
        motion, self._errors, self._flags = self.current_motion_id, errors, flags(errors)
        self.stop_motion(send_preemption_signal=False)
        BaseCommand.send_response(self._tcp_socket, RobotCommand.kMove, motion, MoveStatus.kReflexAborted)
        self.reset_current_motion_id()
        self.reflexes.append({"tick": self.ticks, "errors": list(errors)})
        self._tell({"event": "reflex", **self.reflexes[-1]})

    def _get_state_bytes(self) -> bytes:
        robot = RobotMode.kReflex if self._errors else RobotMode.kMove if self.moving else RobotMode.kIdle
        generator, controller = self._modes if self.moving else AT_REST
        return self._wire.pack(self.robot, robot, generator, controller, self._flags)
