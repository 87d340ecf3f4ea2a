"""The classifier's networks."""

import pytest
import torch

from w4rl_fast.errors import UserError
from w4rl_fast.reward import RewardConfig, RewardModel, Rule, load_reward, save_reward
from w4rl_fast.reward.checkpoint import WEIGHTS
from w4rl_fast.reward.resnet import ResNet18, adopt

CONFIGS = [
    RewardConfig(image_size=32),
    RewardConfig(image_size=32, frames=2),
    RewardConfig(image_size=32, anchor=False),
    RewardConfig(image_size=32, network="resnet18", frames=2),
]


def inputs(config: RewardConfig, count: int = 4):
    generator = torch.Generator().manual_seed(0)
    frames = torch.rand(count, config.frames, 3, 32, 32, generator=generator) * 2 - 1
    return frames, torch.rand(count, 3, 32, 32, generator=generator) * 2 - 1


@pytest.mark.parametrize("config", CONFIGS)
@torch.inference_mode()
def test_one_logit_a_window_whatever_the_batch(config: RewardConfig) -> None:
    torch.manual_seed(0)
    model = RewardModel(config).eval()
    frames, anchor = inputs(config)
    logits = model(frames, anchor)
    assert logits.shape == (4,)
    torch.testing.assert_close(model(frames[2:3], anchor[2:3]), logits[2:3], atol=1e-5, rtol=1e-4)
    assert not torch.allclose(model(-frames, anchor), logits)
    assert torch.allclose(model(frames, -anchor), logits) != config.anchor


@torch.inference_mode()
def test_calibration_moves_the_logit_and_not_what_training_sees() -> None:
    model = RewardModel(CONFIGS[0]).eval()
    frames, anchor = inputs(CONFIGS[0])
    before = model.raw(frames, anchor)
    model.scale.fill_(2.0)
    model.shift.fill_(-1.0)
    assert torch.equal(model.raw(frames, anchor), before)
    torch.testing.assert_close(model(frames, anchor), 2 * before - 1)


def usual_names() -> set[str]:
    """The parameter names of public ResNet-18 weights, written out."""
    norm = ("weight", "bias", "running_mean", "running_var", "num_batches_tracked")
    names = {"conv1.weight", "fc.weight", "fc.bias", *(f"bn1.{part}" for part in norm)}
    for layer in range(1, 5):
        for block in range(2):
            prefix = f"layer{layer}.{block}"
            names |= {f"{prefix}.conv{n}.weight" for n in (1, 2)}
            names |= {f"{prefix}.bn{n}.{part}" for n in (1, 2) for part in norm}
        if layer > 1:
            names |= {f"layer{layer}.0.downsample.0.weight"}
            names |= {f"layer{layer}.0.downsample.1.{part}" for part in norm}
    return names


def test_resnet18_has_the_usual_names_and_size() -> None:
    network = ResNet18(3, 1000)
    assert set(network.state_dict()) == usual_names()
    assert sum(parameter.numel() for parameter in network.parameters()) == 11_689_512


@torch.inference_mode()
def test_public_weights_see_the_same_picture_whatever_the_number_of_frames() -> None:
    """A picture shown twice gives the features of the picture shown once; the last layer stays ours."""
    torch.manual_seed(1)
    public = ResNet18(3, 1000).eval()
    one, two = ResNet18(3).eval(), ResNet18(6).eval()
    for network in (one, two):
        adopt(network, public.state_dict())
    two.fc.load_state_dict(one.fc.state_dict())
    picture = torch.rand(2, 3, 64, 64)
    torch.testing.assert_close(two(picture.repeat(1, 2, 1, 1)), one(picture), atol=1e-5, rtol=1e-4)
    assert torch.equal(one.layer4[1].conv2.weight, public.layer4[1].conv2.weight)


def test_weights_of_another_network_are_refused_by_name() -> None:
    state = ResNet18(3, 1000).state_dict()
    del state["layer3.0.conv1.weight"]
    state["layer9.weight"] = torch.zeros(1)
    with pytest.raises(UserError, match=r"layer3\.0\.conv1\.weight.*layer9\.weight"):
        adopt(ResNet18(3), state)


def test_a_saved_classifier_is_the_same_and_knows_its_rule(tmp_path) -> None:
    model, rule = RewardModel(CONFIGS[1]).eval(), Rule(threshold=0.83, hits=3)
    model.scale.fill_(1.7)
    save_reward(tmp_path / "reward", model, rule)
    again, kept = load_reward(tmp_path)
    assert kept == rule
    with torch.inference_mode():
        assert torch.equal(again(*inputs(CONFIGS[1])), model(*inputs(CONFIGS[1])))


def test_a_classifier_that_cannot_be_read_is_refused(tmp_path) -> None:
    with pytest.raises(UserError, match="no classifier"):
        load_reward(tmp_path)
    save_reward(tmp_path / "reward", RewardModel(CONFIGS[0]), Rule())
    whole = (tmp_path / "reward" / WEIGHTS).read_bytes()
    (tmp_path / "reward" / WEIGHTS).write_bytes(whole[:-100])
    with pytest.raises(UserError, match=r"cannot be read|another config"):
        load_reward(tmp_path)
    save_reward(tmp_path / "other", RewardModel(CONFIGS[2]), Rule())
    (tmp_path / "reward" / WEIGHTS).write_bytes((tmp_path / "other" / WEIGHTS).read_bytes())
    with pytest.raises(UserError, match=r"cannot be read|another config"):
        load_reward(tmp_path)


def test_a_size_that_is_too_small_is_refused() -> None:
    with pytest.raises(ValueError, match="image_size=4"):
        RewardConfig(image_size=4)
    with pytest.raises(ValueError, match="frames=3"):
        RewardConfig(image_size=32, frames=3)
