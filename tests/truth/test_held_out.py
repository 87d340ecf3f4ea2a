"""Which episodes a world is judged on."""

import collections

import pytest
import torch

from w4rl_fast.data.windows import WindowConfig, Windows
from w4rl_fast.errors import UserError
from w4rl_fast.truth.held_out import by_turns, held_out


def test_every_source_has_its_turn_and_no_episode_was_trained_on(point_store, point_config):
    held = held_out(point_store, point_config, horizon=5, episodes=9)
    assert collections.Counter(info.source for info in held.infos) == {"policy": 3, "noisy": 3, "random": 3}
    trained = Windows(point_store, WindowConfig(held_out=point_config.held_out)).episodes
    assert not {point_store.infos[episode].key for episode in trained} & {info.key for info in held.infos}
    everything = held_out(point_store, point_config, horizon=5, episodes=1000)
    assert len(everything) == len({info.key for info in everything.infos}) == len(point_store) - len(trained)


def test_turns_go_on_until_all_are_used_up():
    names = ["a", "a", "a", "b", "c", "c"]
    assert [names[index] for index in by_turns(names)] == ["a", "b", "c", "a", "c", "a"]


def test_slices_are_the_same_windows_whatever_their_size(point_store, point_config):
    held = held_out(point_store, point_config, horizon=5, episodes=11)
    whole = next(held.batches(100))
    parts = list(held.batches(4))
    assert [len(part.frames) for part in parts] == [4, 4, 3]
    for name in ("frames", "actions", "proprio"):
        assert torch.equal(torch.cat([getattr(part, name) for part in parts]), getattr(whole, name))


def test_the_present_is_where_a_change_was_seen_if_there_is_room(point_store, point_config):
    assert held_out(point_store, point_config, horizon=8, episodes=4).start == 1
    assert held_out(point_store, point_config, horizon=9, episodes=4).start == 0
    later = held_out(point_store, point_config, horizon=5, episodes=4, start=4)
    assert (next(later.batches()).row == 4).all()


@pytest.mark.parametrize(("horizon", "start", "remedy"), [(10, None, "--horizon 9"), (6, 4, "--horizon 5")])
def test_a_horizon_beyond_the_episodes_is_refused(point_store, point_config, horizon, start, remedy):
    with pytest.raises(UserError, match=f"10 observations.*{remedy} or less"):
        held_out(point_store, point_config, horizon=horizon, episodes=4, start=start)
