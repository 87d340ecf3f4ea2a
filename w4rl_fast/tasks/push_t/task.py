"""Push-T as a task."""

from collections.abc import Callable

import numpy as np

from w4rl_fast.errors import UserError
from w4rl_fast.tasks.protocol import Frame, Observation, TaskConfig, Vector
from w4rl_fast.tasks.push_t.config import SQUARE, PushTConfig
from w4rl_fast.tasks.push_t.drawing import Painter
from w4rl_fast.tasks.push_t.expert import Expert
from w4rl_fast.tasks.push_t.physics import Table
from w4rl_fast.tasks.push_t.player import Player
from w4rl_fast.tasks.push_t.shape import DISC_RADIUS, ENOUGH, HALF, Pose, coverage, distance, landmarks_of, to_frame

APART = DISC_RADIUS + 5.0
"""How far from the block the middle of the disc begins at least."""


class PushTTask:
    """Push-T. An action says where the disc is to go; proprioception is where it is (units, 0 to 512)."""

    proprio_dim = 2
    landmark_dim = 8

    def __init__(self, config: TaskConfig) -> None:
        self.config = config
        self.settings = config.push_t or PushTConfig()
        self._painters: dict[int, Painter] = {}
        self._table: Table | None = None
        self._coverage = 0.0
        self._succeeded = False

    @property
    def action_low(self) -> tuple[float, ...]:
        return (0.0, 0.0) if self.settings.control == "absolute" else (-self.settings.reach, -self.settings.reach)

    @property
    def action_high(self) -> tuple[float, ...]:
        return (SQUARE, SQUARE) if self.settings.control == "absolute" else (self.settings.reach, self.settings.reach)

    @property
    def succeeded(self) -> bool:
        return self._succeeded

    @property
    def coverage(self) -> float:
        """The share of the block that lies on the goal at this moment."""
        return self._coverage

    @property
    def score(self) -> float:
        """The field's reward."""
        return min(1.0, self._coverage / ENOUGH)

    @property
    def pose(self) -> Pose:
        """Where the block is."""
        return self._running().pose

    def reset(self, seed: int) -> Observation:
        rng = np.random.default_rng(seed)
        place = self.settings
        x, y = rng.uniform(-place.spread, place.spread, 2) + place.middle
        pose = float(x), float(y), place.goal[2] + float(rng.uniform(-place.turn, place.turn))
        while True:
            disc = rng.uniform(place.disc_low, place.disc_high, 2)
            if distance(*to_frame(pose, *disc)) >= APART:
                return self.place((float(disc[0]), float(disc[1])), pose)

    def place(self, disc: tuple[float, float], pose: Pose) -> Observation:
        """Begin an episode with the disc and the block at rest here."""
        self._table = Table(disc, pose, self.settings.friction)
        self._succeeded = False
        self._judge(self._table)
        return self._observe(self._table)

    def step(self, action: Vector) -> Observation:
        table = self._running()
        command = np.clip(np.asarray(action, dtype=np.float64), -1.0, 1.0)
        target = (command + 1.0) * HALF
        if self.settings.control == "relative":
            target = np.clip(np.array(table.disc) + self.settings.reach * command, 0.0, SQUARE)
        for _ in range(self.config.action_repeat):
            table.step((float(target[0]), float(target[1])))
            self._judge(table)
        return self._observe(table)

    def action_for(self, target: tuple[float, float]) -> Vector:
        """The action that sends the disc to a point of the square, as far as it goes that way."""
        away = np.array(target) / HALF - 1.0
        if self.settings.control == "relative":
            away = (np.array(target) - self._running().disc) / self.settings.reach
            away /= max(1.0, float(np.abs(away).max()))
        return np.clip(away, -1.0, 1.0).astype(np.float32)

    def render(self, size: int) -> Frame:
        if size not in self._painters:
            self._painters[size] = Painter(size, self.settings.goal)
        table = self._running()
        return self._painters[size].paint(table.disc, table.pose)

    def expert(self) -> Callable[[], Vector]:
        expert = Expert(self._running(), self.settings.goal, self.config.action_repeat)
        return lambda: self.action_for(expert.target())

    def player(self, rng: np.random.Generator) -> Callable[[], Vector]:
        player = Player(self._running(), self.config.action_repeat, rng)
        return lambda: self.action_for(player.target())

    def close(self) -> None:
        self._painters.clear()
        self._table = None

    def _running(self) -> Table:
        if self._table is None:
            raise UserError("step before reset", rule="an episode starts with a seed", remedy="Call reset(seed) first")
        return self._table

    def _judge(self, table: Table) -> None:
        self._coverage = coverage(table.pose, self.settings.goal)
        self._succeeded |= self._coverage >= ENOUGH

    def _observe(self, table: Table) -> Observation:
        return Observation(
            self.render(self.config.image_size),
            np.array(table.disc, dtype=np.float32),
            self._coverage >= ENOUGH,
            landmarks_of(table.pose),
        )
