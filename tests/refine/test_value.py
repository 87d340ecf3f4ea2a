"""The value network."""

import pytest
import torch

from w4rl_fast.refine import ValueConfig, ValueNetwork


def observed(history: int, count: int = 5):
    generator = torch.Generator().manual_seed(0)
    frames = torch.rand(count, history, 3, 8, 8, generator=generator) * 2 - 1
    return frames, torch.randn(count, history, 1, generator=generator)


@pytest.mark.parametrize("history", [1, 2])
def test_one_value_for_each_observation_zero_at_first(make_policy, history) -> None:
    value = ValueNetwork.beside(make_policy(history))
    assert value(*observed(history)).tolist() == [0] * 5
    torch.nn.init.normal_(value.head[-1].weight)
    values = value(*observed(history))
    assert values.shape == (5,)
    assert values.unique().numel() == 5


def test_it_begins_with_the_convolutions_of_the_policy_and_shares_none(make_policy) -> None:
    policy = make_policy()
    policy.proprio_mean.fill_(3.0)
    value = ValueNetwork.beside(policy)
    assert value.proprio_mean.tolist() == [3.0]
    for name, weight in policy.convolutions.state_dict().items():
        assert torch.equal(weight, value.convolutions.state_dict()[name])
    mine = {each.data_ptr() for each in (*policy.parameters(), *policy.buffers())}
    assert mine.isdisjoint(each.data_ptr() for each in (*value.parameters(), *value.buffers()))


def test_another_size_begins_anew(make_policy) -> None:
    value = ValueNetwork.beside(make_policy(), ValueConfig(image_size=8, proprio_dim=1, widths=(4, 4), hidden=8))
    assert value(*observed(1)).shape == (5,)


def test_it_can_be_saved(make_policy, tmp_path) -> None:
    value = ValueNetwork.beside(make_policy(2))
    torch.nn.init.normal_(value.head[-1].weight)
    value.save_pretrained(tmp_path)
    torch.testing.assert_close(ValueNetwork.from_pretrained(tmp_path)(*observed(2)), value(*observed(2)))


@pytest.mark.parametrize("settings", [{"history": 0}, {"image_size": 7}])
def test_settings_outside_their_range_are_refused(settings) -> None:
    with pytest.raises(ValueError, match="|".join(settings)):
        ValueConfig(**{"image_size": 8, "proprio_dim": 1, **settings})
