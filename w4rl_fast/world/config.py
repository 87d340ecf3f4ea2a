"""What a world model is made of."""

from dataclasses import dataclass, field
from typing import Literal


@dataclass(frozen=True, kw_only=True, slots=True)
class BackboneConfig:
    """A U-Net over pixel-unshuffled frames: `patch` x `patch` pixels make one position.

    One width, depth and attention switch a level; each level below the first has half the positions a side.
    """

    patch: int = 3
    widths: tuple[int, ...] = (48, 96)
    depths: tuple[int, ...] = (2, 2)
    attention: tuple[bool, ...] = (False, False)
    middle_attention: bool = True
    attention_onto_normed: bool = False
    condition_dim: int = 256

    def __post_init__(self) -> None:
        if not len(self.widths) == len(self.depths) == len(self.attention):
            raise ValueError(
                f"widths {self.widths}, depths {self.depths}, attention {self.attention}: one of each a level"
            )


@dataclass(frozen=True, kw_only=True, slots=True)
class NoiseConfig:
    """EDM's noise: training levels are log-normal and clipped; `offset` adds noise that all pixels share.

    The public ancestor trains at log-normal(-0.4, 1.2). Small networks with short schedules do better with more high
    noise, where one-step samples start.

    With `skip` the network says what to take off the noisy picture, as EDM does. Without, it paints the clean one:
    a patchified network has fewer channels than a patch has numbers, and cannot take off noise it cannot carry.
    """

    sigma_data: float = 0.5
    skip: bool = True
    offset: float = 0.3
    mean_log: float = 0.5
    std_log: float = 1.2
    sigma_min: float = 0.002
    sigma_max: float = 20.0


@dataclass(frozen=True, kw_only=True, slots=True)
class SamplingConfig:
    """How a frame is drawn: sampler, number of steps from sigma_max, and rounding to 8 bits after each step."""

    sampler: Literal["euler", "heun"] = "euler"
    steps: int = 3
    sigma_min: float = 0.02
    sigma_max: float = 5.0
    round_to_bytes: bool = True


@dataclass(frozen=True, kw_only=True, slots=True)
class WorldConfig:
    """A world that predicts the next frame and the next proprioception from `history` frames and an action.

    `anchor`: the network predicts the difference to the episode's first frame, which it also sees. This assumes a
    camera that stands still and an episode that begins with everything in view; where that holds, a small network
    need not repaint what never changes. Leave it off for moving cameras.
    """

    image_size: int
    action_dim: int
    proprio_dim: int
    history: int = 4
    anchor: bool = True
    bins: int = 21
    proprio_maps: int = 8
    backbone: BackboneConfig = field(default_factory=BackboneConfig)
    noise: NoiseConfig = field(default_factory=NoiseConfig)
    sampling: SamplingConfig = field(default_factory=SamplingConfig)

    def __post_init__(self) -> None:
        unit = self.backbone.patch * 2 ** (len(self.backbone.widths) - 1)
        if self.image_size % unit:
            raise ValueError(
                f"image_size={self.image_size}: patch {self.backbone.patch} and {len(self.backbone.widths)} levels "
                f"need a multiple of {unit}"
            )
