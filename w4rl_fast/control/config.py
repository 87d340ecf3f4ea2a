"""What a user may choose when a policy drives an arm."""

from dataclasses import dataclass
from pathlib import Path

SIM, VIRTUAL, FCI = "sim", "virtual", "fci://"


@dataclass(frozen=True, kw_only=True, slots=True)
class ControlConfig:
    """arm: sim (a scene on the wall clock), virtual (the same, in simulated time) or fci://HOST.

    policy: cloned, refined, ... or last: the newest there is. camera: drawn, scene:NAME (drawn from shared memory), a
    device's number or an address. record: the store, None for none. compensate: act on the time of the observation.
    """

    arm: str = SIM
    rate: float | None = None
    policy: str = "last"
    model: str = "panda"
    camera: str | None = None
    limits: Path | None = None
    record: Path | None = None
    episodes: int = 1
    seed: int = 0
    turns: int | None = None
    dry_run: bool = False
    recover: bool = False
    hand: bool = True
    allow_non_realtime: bool = False
    compensate: bool = True
    core: int | None = None

    def __post_init__(self) -> None:
        if self.arm not in (SIM, VIRTUAL) and not (self.arm.startswith(FCI) and self.arm.removeprefix(FCI)):
            raise ValueError(f"arm={self.arm!r}: it is sim, virtual or fci://HOST")
        if self.episodes < 1:
            raise ValueError(f"episodes={self.episodes}: at least 1")
