"""An arm whose time is simulated: it passes when somebody waits, and the same twice."""

from dataclasses import replace
from types import TracebackType
from typing import Self

import numpy as np

from w4rl_fast.errors import UserError
from w4rl_fast.robot.arm import Command, State, limited, state_of
from w4rl_fast.robot.plant import Scene
from w4rl_fast.robot.protocol import TICK, Fault, Kind, Mode
from w4rl_fast.robot.servo import NativeServo, make_servo
from w4rl_fast.robot.setup import Setup, settings_of

PATIENCE = 5.0
"""Seconds in which an arm comes to rest from anywhere."""


class SimArm:
    """The Panda of a scene, in lockstep with its servo: the native one steps the scene without Python in between."""

    rate = round(1 / TICK)

    def __init__(self, scene: Scene, setup: Setup, *, dry: bool = False) -> None:
        self.scene, self._dry = scene, dry
        self.settings = settings_of(setup)
        self.servo = make_servo(self.settings)
        self._number = 0
        self._native = self.servo.driver if isinstance(self.servo, NativeServo) else None
        self._plant = scene.native() if self._native else None

    def __enter__(self) -> Self:
        self._start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.rest()

    def read(self) -> State:
        servo, scene = self.servo, self.scene
        if isinstance(servo, NativeServo):
            report = servo.report()
            now = state_of(report)
            return replace(now, joints=scene.joints, speed=scene.speed, opening=scene.opening, stamp=self._stamp)
        command = np.array(servo.command)
        return State(
            tick=servo.tick, mode=servo.mode, fault=servo.fault, flags=servo.flags, joints=scene.joints,
            speed=scene.speed, command=command, goal=command, opening=scene.opening, number=servo.number,
            joined=servo.joined, stamp=self._stamp,
        )  # fmt: skip

    @property
    def _stamp(self) -> int:
        return round(self.servo.tick * TICK * 1e9)

    def send(self, command: Command) -> Command:
        sent = limited(command, self.read(), self.settings)
        if sent.refused or self._dry:
            return sent
        self._number = self.servo.post(sent.kind, sent.times, sent.values, sent.width)
        return replace(sent, number=self._number)

    def wait(self, tick: int) -> State:
        self._pass(tick - self.servo.tick)
        return self.read()

    def rest(self) -> State:
        self.send(Command(Kind.REST))
        return self._until_still()

    def recover(self) -> State:
        if self.servo.mode == Mode.FAULT:
            self._until_still()
            if self.servo.fault == Fault.STALE:
                self.send(Command(Kind.RESET))
                self._pass(1)
            else:
                self._start()
        return self.read()

    def _start(self) -> None:
        if not self.servo.start(self.scene.joints):
            raise UserError(
                f"the arm at {np.round(self.scene.joints, 3).tolist()} rad",
                rule="it begins inside its limits and its workspace",
                remedy="Move the arm by hand, or widen the workspace",
            )

    def _pass(self, ticks: int) -> None:
        if ticks <= 0:
            return
        if self._native is not None:
            self._native.simulate(self._plant, ticks)
            return
        for _ in range(ticks):
            before = np.array(self.servo.command)
            self.servo.step(self.scene.joints)
            after = np.array(self.servo.command)
            self.scene.step(after, (after - before) / TICK, self.servo.width)

    def _until_still(self) -> State:
        for _ in range(round(PATIENCE / 0.01)):
            before = np.array(self.servo.command)
            self._pass(10)
            if np.array_equal(before, self.servo.command) and self.servo.mode in (Mode.READY, Mode.FAULT, Mode.OFF):
                return self.read()
        raise UserError(
            "the arm", rule=f"it rests within {PATIENCE:g} s of braking", remedy="This is a defect: report it"
        )
