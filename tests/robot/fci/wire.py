"""Packs a plant's state for the wire within a few microseconds."""

import struct

import numpy as np
from franky_sim.franka_robot_protocol import RobotMode, StateControllerMode, StateMotionGeneratorMode
from franky_sim.franka_robot_state import FrankaRobotState

from tests.robot.fci.errors import FLAGS
from tests.robot.fci.plant import Plant

JOINT_FIELDS = ("q", "q_d", "dq", "dq_d", "ddq_d", "tau_J")
MARK = struct.unpack("<f", b"\1\1\1\1")[0]


def offset(**change: object) -> int:
    """Where a field begins in a packed state: the first byte that differs when it does."""
    plain, marked = FrankaRobotState().pack_state(), FrankaRobotState().replace(**change).pack_state()
    return next(at for at, (one, other) in enumerate(zip(plain, marked, strict=True)) if one != other)


class Wire:
    """Keeps a packed state and overwrites what changes from tick to tick; the whole is packed anew when frames are set.

    Where the fields lie is found by packing states that differ in one of them.
    """

    def __init__(self) -> None:
        self._at = {name: offset(**{name: (MARK,) * 7}) for name in JOINT_FIELDS}
        self._at |= {"O_T_EE": offset(O_T_EE=(MARK,) * 16), "rate": offset(control_command_success_rate=MARK)}
        self._robot = offset(robot_mode=RobotMode.kReflex)
        self._generator = offset(motion_generator_mode=StateMotionGeneratorMode.kJointPosition)
        self._controller = offset(controller_mode=StateControllerMode.kCartesianImpedance)
        self._flags = [offset(errors=(True,) * len(FLAGS)), offset(reflex_reason=(True,) * len(FLAGS))]
        self._frames: dict | None = None

    def _rebuild(self, plant: Plant) -> None:
        self._frames = dict(plant.frames)
        self._packed = bytearray(FrankaRobotState(**plant.frames).pack_state())
        length = {"O_T_EE": 16, "rate": 1}
        self._view = {
            name: np.frombuffer(self._packed, "<f4", length.get(name, 7), at) for name, at in self._at.items()
        }

    def pack(
        self,
        plant: Plant,
        robot: RobotMode,
        generator: StateMotionGeneratorMode,
        controller: StateControllerMode,
        errors: tuple[bool, ...],
    ) -> bytes:
        """The state that a client reads; errors are flags in the order of `FLAGS`."""
        if plant.frames != self._frames:
            self._rebuild(plant)
        view, packed = self._view, self._packed
        for name in JOINT_FIELDS:
            view[name][:] = getattr(plant, name)
        view["O_T_EE"][:], view["rate"][:] = plant.O_T_EE, plant.success_rate
        packed[self._robot], packed[self._generator], packed[self._controller] = robot, generator, controller
        for at in self._flags:
            packed[at : at + len(FLAGS)] = bytes(errors)
        return bytes(packed)
