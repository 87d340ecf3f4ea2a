"""Push-T in Diffusion Policy's layout: a state says where disc and block are, an action where the disc is to go."""

import math
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from w4rl_fast.config import override
from w4rl_fast.data.episode import Episode
from w4rl_fast.errors import UserError
from w4rl_fast.tasks import TaskConfig, default_config
from w4rl_fast.tasks.catalogue import PUSH_T
from w4rl_fast.tasks.push_t.config import SQUARE, PushTConfig
from w4rl_fast.tasks.push_t.shape import ENOUGH, coverage, landmarks_of, pose_of

if TYPE_CHECKING:
    from w4rl_fast.data.importers.diffusion_policy import DiffusionPolicyConfig
    from w4rl_fast.data.importers.replay_buffer import ReplayBuffer

LOW, HIGH = (0.0, 0.0), (SQUARE, SQUARE)
DISC, STATE, MARKS = 2, 5, 8


def is_push_t(buffer: "ReplayBuffer", config: "DiffusionPolicyConfig") -> bool:
    """Whether rows are to be read as Push-T's: by the task's name, unless the columns of the state are chosen."""
    if config.task != PUSH_T or config.state_dim is not None or buffer.states is None:
        return False
    if buffer.states.shape[1] != STATE:
        raise UserError(
            f"{buffer.states.path} has {buffer.states.shape[1]} columns",
            rule=f"a state of {PUSH_T} is x, y of the disc and x, y, angle of the block",
            remedy="Give another --task, or choose columns by --set state_dim=N.",
        )
    return True


def successes(states: NDArray[np.floating]) -> NDArray[np.bool_]:
    """Whether the block of each state (L, 5) lies on the goal."""
    goal = PushTConfig().goal
    return np.array([coverage((x, y, angle), goal) >= ENOUGH for x, y, angle in states[:, DISC:].tolist()], np.bool_)


def landmarks(states: NDArray[np.floating]) -> NDArray[np.float32]:
    """The marks (L, 8) of the block of each state (L, 5)."""
    return landmarks_of(states[:, DISC:].astype(np.float64))


def states_of(episode: Episode) -> NDArray[np.float32]:
    """The states (L, 5) of an episode, angles from 0 to 2 pi."""
    assert episode.landmarks is not None
    poses = pose_of(episode.landmarks)
    poses[:, 2] %= 2 * math.pi
    return np.concatenate([episode.proprio, poses], axis=1).astype(np.float32)


def has_states(episode: Episode) -> bool:
    """Whether an episode says where disc and block are."""
    return episode.info.task == PUSH_T and episode.landmarks is not None


def settings_of(buffer: "ReplayBuffer") -> TaskConfig:
    """The task as it was set up for these recordings."""
    longest = int(np.diff(buffer.ends, prepend=0).max()) - 1
    return override(default_config(PUSH_T), [f"image_size={buffer.images.shape[1]}", f"horizon={longest}"])
