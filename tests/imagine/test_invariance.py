"""A world is a function of its own seed and actions: bit for bit on the eager path of a CPU."""

import importlib.util
import os

import pytest
import torch

from w4rl_fast.imagine import StartConfig, load_starts
from w4rl_kernels import edm_step, noise

STEPS = 12


def trajectory(imagination, seeds, acted, **begin):
    """All that is seen of every world, (steps, B, ...) each."""
    imagination.reset(torch.tensor(seeds), **begin)
    rows = []
    for actions in acted:
        seen, outcome, final = imagination.step(actions)
        rows.append([each.clone() for each in (*seen, *outcome, *final)])
    return [torch.stack(each) for each in zip(*rows, strict=True)]


def same(ones, others) -> bool:
    return all(torch.equal(one, other) for one, other in zip(ones, others, strict=True))


@pytest.fixture(scope="module")
def many(imagine):
    """Nine worlds in slices of four: what they did, and what was seen."""
    seeds = [5, 900, -3, 77, 2**40, 6, 8, 1, 0]
    generator = torch.Generator().manual_seed(4)
    acted = torch.rand(STEPS, 9, 2, generator=generator) * 2 - 1
    seen = trajectory(imagine(9), seeds, acted)
    ended = seen[3].sum() + seen[4].sum()
    assert ended >= 9, "every world has begun anew at least once"
    assert seen[3].any(), "some have won"
    assert seen[2].any()
    return seeds, acted, seen


@pytest.mark.parametrize("which", [0, 4, 8])
def test_alone_as_among_others(imagine, many, which) -> None:
    seeds, acted, seen = many
    alone = trajectory(imagine(1), seeds[which : which + 1], acted[:, which : which + 1])
    assert same(alone, [each[:, which : which + 1] for each in seen])


def test_the_order_of_the_batch_does_not_matter(imagine, many) -> None:
    seeds, acted, seen = many
    order = [7, 2, 8, 0, 5, 1, 6, 3, 4]
    shuffled = trajectory(imagine(9), [seeds[i] for i in order], acted[:, order])
    assert same(shuffled, [each[:, order] for each in seen])


def test_the_same_run_twice_is_the_same(imagine, many) -> None:
    seeds, acted, seen = many
    imagination = imagine(9)
    assert same(trajectory(imagination, seeds, acted), seen)
    assert same(trajectory(imagination, seeds, acted), seen), "an imagination that was used before is like a new one"


def test_an_engine_that_is_given_numbers_and_gives_frames_imagines_the_same(imagine, many) -> None:
    """The module itself is given a draw, and writes its bytes where they belong."""
    seeds, acted, seen = many
    module = imagine(1).module
    assert same(trajectory(imagine(9, engine=lambda *given: module(*given)), seeds, acted), seen)


@pytest.mark.skipif(importlib.util.find_spec("triton") is None, reason='pip install "w4rl-fast[triton]"')
@pytest.mark.skipif(os.environ.get("TRITON_INTERPRET") != "1", reason="set TRITON_INTERPRET=1 for the whole run")
def test_our_kernels_imagine_the_same(imagine, many, monkeypatch) -> None:
    """Noise, the sampler's steps, and what lands in the rings, by Triton's interpreter."""
    seeds, acted, seen = many
    for switch in (edm_step.SWITCH, noise.SWITCH):
        monkeypatch.setattr(switch, "asked", "gpu")
    assert same(trajectory(imagine(9), seeds, acted[:3]), [each[:3] for each in seen])


def test_the_noise_that_led_here_is_that_of_the_step_before(imagine) -> None:
    given, module = [], imagine(1).module
    worlds = imagine(4, engine=lambda *inputs: given.append(inputs[5].clone()) or module(*inputs))
    worlds.reset(3)
    for _ in range(7):  # past the end of an episode
        worlds.advance(torch.zeros(4, 2))
        assert torch.equal(worlds.last_noise(), given[-1])
        worlds.restart(worlds.late | worlds.won)


def test_bfloat16_keeps_it_too(imagine) -> None:
    acted = torch.rand(STEPS, 5, 2, generator=torch.Generator().manual_seed(0)) * 2 - 1
    whole = trajectory(imagine(5, precision="bfloat16"), [1, 2, 3, 4, 5], acted)
    alone = trajectory(imagine(1, precision="bfloat16"), [4], acted[:, 3:4])
    assert same(alone, [each[:, 3:4] for each in whole])


def test_another_slice_size_stays_within_a_grey_level_or_two(imagine, many) -> None:
    """The kernels see other shapes then, and sum in another order."""
    seeds, acted, seen = many
    other = trajectory(imagine(9, slice_size=3), seeds, acted[:4])
    assert (other[0].int() - seen[0][:4].int()).abs().max() <= 2
    torch.testing.assert_close(other[1], seen[1][:4], atol=1e-3, rtol=0)


def test_neighbours_that_did_otherwise_change_nothing(imagine, many) -> None:
    seeds, acted, seen = many
    other = -acted
    other[:, 3] = acted[:, 3]
    assert same([each[:, 3] for each in trajectory(imagine(9), seeds, other)], [each[:, 3] for each in seen])


@pytest.mark.parametrize("step", [1, 3, 7])
def test_a_world_reset_at_any_step_is_a_fresh_one(imagine, many, step) -> None:
    seeds, acted, seen = many
    imagination = imagine(9)
    imagination.reset(torch.arange(9) + 1000)
    for actions in acted[:step]:
        imagination.step(-actions)
    mask = torch.arange(9) % 2 == 0
    given = torch.tensor(seeds)
    before = imagination.observe().proprio.clone()
    after = imagination.reset(given, mask=mask).proprio
    assert torch.equal(after[~mask], before[~mask])
    rows = [[each.clone() for group in imagination.step(actions) for each in group] for actions in acted]
    ours = [torch.stack(each)[:, mask] for each in zip(*rows, strict=True)]
    assert same(ours, [each[:, mask] for each in seen])


def test_the_second_episode_does_not_depend_on_the_first(imagine, many) -> None:
    _, acted, _ = many
    imagination = imagine(9)
    imagination.reset(40)
    for actions in acted:
        imagination.step(actions)
    imagination.reset(40)
    imagination.restart(torch.ones(9, dtype=torch.bool))
    ours = [[each.clone() for group in imagination.step(actions) for each in group] for actions in acted[:4]]
    theirs = trajectory(imagine(9), [40 + i for i in range(9)], acted[:4], episodes=1)
    assert same([torch.stack(each) for each in zip(*ours, strict=True)], theirs)


def test_episodes_of_one_world_begin_in_different_places(imagine) -> None:
    imagination = imagine(1)
    places = {tuple(imagination.reset(7, episodes=number).proprio[0].tolist()) for number in range(20)}
    assert len(places) > 5


def test_starts_from_any_row_keep_the_law(imagine, store, world) -> None:
    anywhere = load_starts(store, world.config, StartConfig(task="test/square", rows="any"))
    acted = torch.rand(STEPS, 6, 2, generator=torch.Generator().manual_seed(2)) * 2 - 1
    whole = trajectory(imagine(6, starts=anywhere), list(range(6)), acted)
    alone = trajectory(imagine(1, starts=anywhere), [2], acted[:, 2:3])
    assert same(alone, [each[:, 2:3] for each in whole])
