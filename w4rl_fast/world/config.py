"""What a world model is made of."""

from dataclasses import dataclass, field
from typing import Literal, get_args


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

    @property
    def width(self) -> int:
        """Channels of a position on the first level."""
        return self.widths[0]

    @property
    def unit(self) -> int:
        """Pixels a side that make one position of the deepest level."""
        return int(self.patch * 2 ** (len(self.widths) - 1))


@dataclass(frozen=True, kw_only=True, slots=True)
class TransformerConfig:
    """A transformer over patches: `patch` x `patch` pixels of all pictures together make one token.

    A token narrower than the 3 * patch * patch numbers it has to paint cannot paint every patch.
    """

    patch: int = 6
    width: int = 128
    depth: int = 6
    heads: int = 4
    expansion: int = 4
    condition_dim: int = 128

    def __post_init__(self) -> None:
        if min(self.patch, self.width, self.depth, self.heads, self.expansion) < 1 or self.width % self.heads:
            raise ValueError(
                f"patch={self.patch}, width={self.width}, depth={self.depth}, heads={self.heads},"
                f" expansion={self.expansion}: at least 1 each, and a width that the heads divide"
            )

    @property
    def unit(self) -> int:
        """Pixels a side that make one token."""
        return self.patch


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


SamplerName = Literal["euler", "heun", "EDMEulerScheduler", "EDMDPMSolverMultistepScheduler"]


@dataclass(frozen=True, kw_only=True, slots=True)
class SamplingConfig:
    """How a frame is drawn: sampler, number of steps from sigma_max, and rounding to 8 bits after each step.

    A capitalised sampler is a scheduler of diffusers, for which `scheduler` holds further arguments of its class.
    """

    sampler: SamplerName = "euler"
    steps: int = 3
    sigma_min: float = 0.02
    sigma_max: float = 5.0
    round_to_bytes: bool = True
    scheduler: dict[str, int | float | bool | str] = field(default_factory=dict)

    def __post_init__(self) -> None:
        if self.sampler not in get_args(SamplerName):
            raise ValueError(f"sampler={self.sampler!r}: one of {', '.join(get_args(SamplerName))}")
        if self.scheduler and self.sampler in ("euler", "heun"):
            raise ValueError(f"scheduler={self.scheduler}: {self.sampler} is no scheduler of diffusers")


@dataclass(frozen=True, kw_only=True, slots=True)
class WorldConfig:
    """A world that predicts the next frame and the next proprioception from `history` frames and an action.

    `anchor`: the network predicts the difference to the episode's first frame, which it also sees. This assumes a
    camera that stands still and an episode that begins with everything in view; where that holds, a small network
    need not repaint what never changes. Leave it off for moving cameras. With `residual` too it predicts the difference
    to the present frame, which is smaller where things are pushed about, and has to be right about where they are.

    `transformer`, where it is given, takes the place of the U-Net that `backbone` describes.
    """

    image_size: int
    action_dim: int
    proprio_dim: int
    history: int = 4
    anchor: bool = True
    residual: bool = False
    bins: int = 21
    proprio_maps: int = 8
    backbone: BackboneConfig = field(default_factory=BackboneConfig)
    transformer: TransformerConfig | None = None
    noise: NoiseConfig = field(default_factory=NoiseConfig)
    sampling: SamplingConfig = field(default_factory=SamplingConfig)

    def __post_init__(self) -> None:
        network = self.network
        if self.image_size % network.unit:
            raise ValueError(
                f"image_size={self.image_size}: patch {network.patch} of {type(network).__name__} needs a multiple of"
                f" {network.unit}"
            )

    @property
    def network(self) -> BackboneConfig | TransformerConfig:
        """The backbone that is built."""
        return self.transformer or self.backbone
