"""A rollout without its order."""

import numpy as np
import torch

from w4rl_fast.policy.actor import PolicyActor
from w4rl_fast.refine.samples import gather, pictures
from w4rl_fast.tasks.protocol import Observation


def test_what_belongs_together_stays_together(line, clone) -> None:
    rollout = line.rollout(clone, lambda _frames, proprio: proprio[:, 0, 0], steps=5, seed=0)
    places = torch.arange(5 * 32).reshape(5, 32)
    samples = gather(rollout, places, -places, clone, parts=3)
    rows = torch.tensor([0, 31, 32, 77, 159])
    few, steps, worlds = samples.at(rows), rows // 32, rows % 32
    for name in ("frames", "proprio", "actions", "log_probs"):
        assert torch.equal(getattr(few, name), getattr(rollout, name)[steps, worlds])
    assert torch.equal(few.advantages, rows)
    assert torch.equal(few.returns, -rows)
    mean, std = clone(pictures(few.frames), few.proprio)
    torch.testing.assert_close((few.clone_mean, few.clone_std), (mean, std))
    assert not few.clone_mean.requires_grad


def test_a_policy_sees_the_same_picture_here_as_on_the_robot(make_policy) -> None:
    policy, rng = make_policy(history=2), np.random.default_rng(0)
    frames = rng.integers(0, 256, (2, 8, 8, 3), np.uint8)
    actor = PolicyActor(policy)
    for frame in frames:
        action = actor.act(Observation(frame, np.ones(1, np.float32), False))
    mean, _ = policy(pictures(torch.from_numpy(frames)[None]), torch.ones(1, 2, 1))
    assert action.tolist() == mean[0].clamp(-1, 1).tolist()
