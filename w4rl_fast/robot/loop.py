"""A policy drives an arm: one observation, one decision, one message a period, by absolute deadlines."""

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from w4rl_fast.robot.arm import NOTHING, Arm, ArmLost, Command, State
from w4rl_fast.robot.camera import Camera, Shot
from w4rl_fast.robot.decider import Decider
from w4rl_fast.robot.handling import Hand, Handling
from w4rl_fast.robot.protocol import REFUSED, TICK, Flag, Mode


@dataclass(frozen=True, slots=True)
class Turn:
    """One turn of the loop: what was seen at a tick and decided on it, what was sent, and how late the loop was
    (ticks).

    delay: ticks from the last observation until what was decided on it began to move the arm; None before the first.
    """

    number: int
    tick: int
    state: State
    shot: Shot
    proprio: NDArray[np.float32]
    action: NDArray[np.float32]
    sent: Command
    late: int
    delay: int | None


class Watcher(Protocol):
    """Told of every turn, such as a view or a recording; `end` gets the last observation."""

    def turn(self, turn: Turn) -> None: ...

    def end(self, state: State, shot: Shot, proprio: NDArray[np.float32]) -> None: ...


@dataclass(slots=True)
class Drive:
    """How an episode went: turns, overrun periods, refused messages, delays (ms), tracking errors (mrad), its end."""

    turns: int = 0
    overruns: int = 0
    refused: int = 0
    delays: list[float] = field(default_factory=list)
    errors: list[float] = field(default_factory=list)
    ended: str = "horizon"
    error: Exception | None = None
    flags: Flag = NOTHING


def drive(
    arm: Arm,
    camera: Camera,
    decider: Decider,
    handling: Handling,
    *,
    turns: int,
    watchers: tuple[Watcher, ...] = (),
    done: Callable[[], bool] = lambda: False,
    compensate: bool = True,
) -> Drive:
    """Let a policy drive for some turns, or until it is done, the arm stops or something fails; then it is stopped.

    With `compensate` a message carries the time of the observation it was decided on, so that the arm does what was
    meant for this moment, and goes on for as long as the next message was late last time; without, it does what was
    meant for that moment.
    """
    outcome = Drive()
    watch = _Watchers(watchers)
    try:
        _turns(arm, camera, decider, handling, turns, watch, done, compensate, outcome)
    except KeyboardInterrupt:
        outcome.ended = "interrupted"
    except ArmLost as error:
        outcome.ended, outcome.error = "lost", error
    except Exception as error:
        outcome.ended, outcome.error = "error", error
    if outcome.ended != "lost":
        _stop(arm, outcome)
    failed = watch.end()
    outcome.error = outcome.error or failed
    return outcome


def _turns(
    arm: Arm, camera: Camera, decider: Decider, handling: Handling, turns: int, watch: "_Watchers",
    done: Callable[[], bool], compensate: bool, outcome: Drive,
) -> None:  # fmt: skip
    decider.begin()
    state = arm.read()
    hand, begin, period = Hand(handling, state), state.tick + 1, handling.period
    observed: dict[int, int] = {}
    late, unsent, refused = 0, 0, state.refused
    for number in range(turns + 1):
        due = begin + number * period
        state = arm.wait(due)
        shot = camera.read()
        tick = _tick_of(shot, state)
        proprio = hand.proprio(state)
        watch.seen = state, shot, proprio
        outcome.refused = unsent + state.refused - refused  # here, and by the servo
        if state.mode == Mode.FAULT:
            outcome.ended = f"fault: {state.fault.name.lower()}"
        elif done():
            outcome.ended = "done"
        if number == turns or outcome.ended != "horizon":
            return
        delay = state.joined - observed[state.number] if state.number in observed else None
        late = delay if delay is not None else late
        actions = decider.decide(shot.frame, proprio)
        if compensate:
            route = hand.route(actions, float(tick), ahead=late)
        else:
            route = hand.route(actions, float(arm.read().tick))
        sent = arm.send(route)
        if sent.refused & REFUSED:
            unsent += 1
        else:
            hand.reached(sent)
            if sent.number:  # none was sent on a dry run
                observed[sent.number] = tick
        turn = Turn(number, tick, state, shot, proprio, actions[0], sent, state.tick - due, delay)
        _count(outcome, turn, period)
        watch.turn(turn)


def _stop(arm: Arm, outcome: Drive) -> None:
    """A controlled stop; what stands in its way is told, and the servo's watchdog does the rest."""
    try:
        arm.rest()
    except ArmLost as error:
        outcome.error = outcome.error or error


class _Watchers:
    """All of them, and the last observation, which they get at the end whatever that was."""

    def __init__(self, watchers: tuple[Watcher, ...]) -> None:
        self._all = watchers
        self.seen: tuple[State, Shot, NDArray[np.float32]] | None = None

    def turn(self, turn: Turn) -> None:
        for watcher in self._all:
            watcher.turn(turn)

    def end(self) -> Exception | None:
        """Tell each of them, whatever the others do; the first that failed is returned."""
        failed: Exception | None = None
        for watcher in self._all if self.seen is not None else ():
            assert self.seen is not None
            try:
                watcher.end(*self.seen)
            except Exception as error:
                failed = failed or error
        return failed


def _tick_of(shot: Shot, state: State) -> int:
    """The arm's tick at which a shot was taken."""
    return state.tick + round((shot.stamp - state.stamp) / 1e9 / TICK)


def _count(outcome: Drive, turn: Turn, period: int) -> None:
    outcome.turns += 1
    outcome.overruns += turn.late > period // 2
    if turn.delay is not None:
        outcome.delays.append(turn.delay * TICK * 1e3)
    outcome.errors.append(float(np.abs(turn.state.joints - turn.state.command).max()) * 1e3)
    outcome.flags |= turn.state.flags | turn.sent.refused
