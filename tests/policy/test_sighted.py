"""Networks that decide on the latent of frozen eyes: they see as the surrogate does, and only the deciding learns."""

import math

import pytest
import torch

from tests.surrogate.toy import TINY, surrogate_of, weights, write_store
from w4rl_fast.data.windows import WindowConfig, Windows
from w4rl_fast.fit import FitConfig
from w4rl_fast.policy import GaussianPolicy, PolicyConfig, load_policy, save_policy
from w4rl_fast.policy.clone import CloneConfig, clone
from w4rl_fast.refine.value import ValueConfig, ValueNetwork

EYES = ("convolutions", "head", "proprio_mean", "proprio_std", "change_std")


@pytest.fixture(params=[0, 3], ids=["all pixels", "points"])
def surrogate(request):
    made = surrogate_of(history=2, points=request.param)
    made.eyes.proprio_mean.copy_(torch.tensor([0.3, -0.2]))
    made.eyes.proprio_std.copy_(torch.tensor([0.5, 2.0]))
    made.eyes.change_std.copy_(torch.tensor([0.1, 0.4]))
    return made


@pytest.fixture
def policy(surrogate):
    torch.manual_seed(3)
    return surrogate.policy(hidden=12).eval()


def observed(count=7, seed=1):
    generator = torch.Generator().manual_seed(seed)
    return torch.rand(count, 2, 3, 16, 16, generator=generator) * 2 - 1, torch.randn(count, 2, 2, generator=generator)


def eyes_of(module):
    return {name: each for name, each in weights(module).items() if name.startswith(EYES)}


def test_what_it_says_is_what_it_decides_on_what_it_sees(policy) -> None:
    seen = policy.observe(*observed())
    assert seen.shape == (7, 9)
    for one, other in zip(policy(*observed()), policy.decide(seen), strict=True):
        assert torch.equal(one, other)
        assert one.shape == (7, 2)


def test_it_sees_what_the_surrogate_sees_bit_for_bit(policy, surrogate) -> None:
    assert torch.equal(policy.observe(*observed()), surrogate.encode(*observed()))
    assert eyes_of(policy).keys() == surrogate.eyes.state_dict().keys()
    for name, each in surrogate.eyes.state_dict().items():
        assert torch.equal(eyes_of(policy)[name], each)
        assert eyes_of(policy)[name].data_ptr() != each.data_ptr()


def test_the_last_of_what_it_sees_is_what_it_feels(surrogate) -> None:
    """Where the robot is and how that changed, in deviations; what is seen comes before it."""
    frames, proprio = observed()
    seen = surrogate.encode(frames, proprio)
    place = (proprio[:, 1] - torch.tensor([0.3, -0.2])) / torch.tensor([0.5, 2.0])
    change = (proprio[:, 1] - proprio[:, 0]) / torch.tensor([0.1, 0.4])
    torch.testing.assert_close(seen[:, 5:], torch.cat([place, change], 1))
    assert not torch.allclose(surrogate.encode(-frames, proprio)[:, :5], seen[:, :5], atol=1e-4)


def test_encoding_has_no_gradient(surrogate) -> None:
    frames, proprio = (each.requires_grad_() for each in observed())
    assert not surrogate.encode(frames, proprio).requires_grad


def test_only_what_decides_learns(policy) -> None:
    learning = {name for name, each in policy.named_parameters() if each.requires_grad}
    assert learning == {name for name in policy.state_dict() if not name.startswith(EYES)}
    assert "log_std" in learning
    policy(*observed())[0].sum().backward()
    assert all((each.grad is None) == name.startswith(EYES) for name, each in policy.named_parameters() if
               name != "log_std")  # fmt: skip


def test_it_begins_in_the_middle_with_the_deviation_it_was_given(surrogate) -> None:
    mean, std = surrogate.policy(std=0.17)(*observed())
    assert mean.abs().max() < 0.05
    assert std.detach().unique().tolist() == pytest.approx([0.17])


def test_it_comes_back_exactly(policy, tmp_path) -> None:
    save_policy(tmp_path, policy)
    again = load_policy(tmp_path)
    assert again.config == policy.config
    assert (again.config.latent, again.config.latent_hidden) == (9, 12)
    assert all(torch.equal(each, weights(again)[name]) for name, each in weights(policy).items())
    assert torch.equal(again(*observed())[0], policy(*observed())[0])
    assert not any(each.requires_grad for name, each in again.named_parameters() if name.startswith(EYES))


def test_a_policy_with_eyes_of_its_own_has_no_weights_that_it_had_not_before() -> None:
    sizes = {name: TINY[name] for name in ("image_size", "action_dim", "proprio_dim", "widths", "hidden")}
    policy = GaussianPolicy(PolicyConfig(**sizes, history=2)).eval()
    assert {name.split(".")[0] for name in policy.state_dict()} == {*EYES[:-1], "log_std"}
    assert all(each.requires_grad for each in policy.parameters())
    assert torch.equal(policy(*observed())[0], policy.observe(*observed()))


def test_a_value_network_beside_it_has_its_eyes_and_expects_nothing_yet(policy) -> None:
    value = ValueNetwork.beside(policy).eval()
    assert (value.config.latent, value.config.latent_hidden) == (9, 12)
    assert torch.equal(value.observe(*observed()), policy.observe(*observed()))
    assert torch.equal(value(*observed()), torch.zeros(7))
    learning = {name for name, each in value.named_parameters() if each.requires_grad}
    assert learning == {name for name in value.state_dict() if name.startswith("decision")}
    with torch.no_grad():
        for weight in value.decision.parameters():
            weight.normal_()
    assert torch.equal(value(*observed()), value.judge(value.observe(*observed())))
    assert value(*observed()).std() > 0.1


def test_a_value_network_on_a_latent_comes_back_exactly(policy, tmp_path) -> None:
    value = ValueNetwork.beside(policy).eval()
    value.save_pretrained(tmp_path)
    again = ValueNetwork.from_pretrained(tmp_path)
    assert torch.equal(again.observe(*observed()), value.observe(*observed()))


def test_cloning_teaches_what_decides_and_leaves_the_eyes_and_their_statistics(policy, tmp_path) -> None:
    windows = Windows(write_store(tmp_path / "store", count=6), WindowConfig(history=2, future=1, held_out=0.0))
    before = weights(policy)
    clone(policy, windows, CloneConfig(fit=FitConfig(steps=4, batch=8, warm_up=1)), tmp_path / "clone")
    after = weights(load_policy(tmp_path / "clone"))
    for name, each in before.items():
        assert torch.equal(after[name], each) == name.startswith(EYES), name
    assert not math.isclose(after["log_std"][0].exp(), 0.3, rel_tol=1e-6)


@pytest.mark.parametrize("sizes", [{"latent": 0}, {"latent": -3}, {"latent": 4, "latent_hidden": 0}])
def test_sizes_that_cannot_be_are_refused(sizes) -> None:
    with pytest.raises(ValueError, match="latent"):
        PolicyConfig(image_size=16, action_dim=2, proprio_dim=2, **sizes)
    with pytest.raises(ValueError, match="latent"):
        ValueConfig(image_size=16, proprio_dim=2, **sizes)
