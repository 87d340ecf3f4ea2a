import pytest
import torch

from w4rl_fast.policy import GaussianPolicy, PolicyConfig


def make(seed=0, **settings):
    torch.manual_seed(seed)
    return GaussianPolicy(PolicyConfig(**{"image_size": 16, "action_dim": 4, "proprio_dim": 3, **settings})).eval()


def observed(config, count=5, seed=1):
    generator = torch.Generator().manual_seed(seed)
    frames = torch.rand(count, config.history, 3, config.image_size, config.image_size, generator=generator) * 2 - 1
    return frames, torch.randn(count, config.history, config.proprio_dim, generator=generator)


@pytest.mark.parametrize("settings", [{}, {"history": 3}, {"image_size": 17}, {"proprio_dim": 0}, {"action_dim": 1}])
def test_mean_and_deviation_have_the_shape_of_the_action(settings):
    policy = make(**settings)
    mean, std = policy(*observed(policy.config))
    assert mean.shape == std.shape == (5, policy.config.action_dim)
    assert torch.isfinite(mean).all()


def test_each_observation_is_judged_by_itself():
    """Another order of the batch is another order of the answers."""
    policy = make(history=2)
    frames, proprio = observed(policy.config, count=7)
    order = torch.tensor([3, 0, 6, 2, 5, 1, 4])
    mean, _ = policy(frames, proprio)
    shuffled, _ = policy(frames[order], proprio[order])
    torch.testing.assert_close(shuffled, mean[order])
    alone, _ = policy(frames[2:3], proprio[2:3])
    torch.testing.assert_close(alone[0], mean[2])


def test_every_frame_and_every_proprioception_counts():
    policy = make(history=3)
    frames, proprio = observed(policy.config, count=1)
    mean, _ = policy(frames, proprio)
    for time in range(3):
        changed, felt = frames.clone(), proprio.clone()
        changed[:, time] += 0.5
        felt[:, time] += 0.5
        assert not torch.allclose(policy(changed, proprio)[0], mean)
        assert not torch.allclose(policy(frames, felt)[0], mean)


@pytest.mark.parametrize(("log_std", "expected"), [(-50.0, 0.05), (50.0, 1.0), (-1.0, 0.3679)])
def test_the_deviation_stays_within_its_bounds(log_std, expected):
    policy = make()
    policy.log_std.data.fill_(log_std)
    _, std = policy(*observed(policy.config))
    torch.testing.assert_close(std, torch.full_like(std, expected), atol=1e-4, rtol=0)


def test_proprioception_is_normalised_by_what_the_policy_carries():
    policy = make()
    frames, proprio = observed(policy.config)
    mean, _ = policy(frames, proprio)
    policy.proprio_mean.fill_(2.0)
    policy.proprio_std.fill_(4.0)
    torch.testing.assert_close(policy(frames, proprio * 4 + 2)[0], mean)


@pytest.mark.parametrize(
    "settings",
    [{"std_low": 0.0}, {"std_low": 2.0}, {"history": 0}, {"image_size": 7}],
)
def test_settings_outside_their_range_are_refused(settings):
    with pytest.raises(ValueError, match="|".join(settings)):
        make(**settings)
