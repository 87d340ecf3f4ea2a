"""A rollout as a recording: it is replayed on the same memory, and nothing in it depends on the data or on the host."""

import copy
import dataclasses

import pytest
import torch
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from tests.imagine.conftest import TASK
from tests.imagine.test_rollout import copied, value
from w4rl_fast.imagine import Rollouts, StartConfig, load_starts
from w4rl_fast.policy import GaussianPolicy
from w4rl_fast.policy.gaussian import PolicyConfig
from w4rl_fast.refine.value import ValueNetwork
from w4rl_kernels import noise

STEPS = 5  # one past the horizon of the worlds, and no multiple of the rings
ASKS_THE_HOST = ("item", "_local_scalar_dense", "is_nonzero", "equal", "nonzero", "masked_select", "unique", "_unique2")


class Guard(TorchDispatchMode):
    """Raises where a GPU would have to wait for the host, or take memory by what is in a tensor; notes all the rest."""

    def __init__(self):
        super().__init__()
        self.trace = []

    def __torch_dispatch__(self, function, types, args=(), kwargs=None):
        name = function._schema.name.split("::")[1]
        if name in ASKS_THE_HOST:
            raise AssertionError(f"{name} waits for the host")
        if name.startswith("index") and any(
            isinstance(each, torch.Tensor) and each.dtype in (torch.bool, torch.uint8)
            for each in tree_leaves(args[1:2])
            for each in tree_leaves(args[1:2])
        ):
            raise AssertionError(f"{name} by a mask takes memory by its data")
        out = function(*args, **(kwargs or {}))
        self.trace.append((name, *(tuple(each.shape) for each in tree_leaves(out) if isinstance(each, torch.Tensor))))
        return out


class Stays(TorchDispatchMode):
    """Raises where anything is taken from the host's memory, or brought there."""

    def __torch_dispatch__(self, function, types, args=(), kwargs=None):
        out = function(*args, **(kwargs or {}))
        for each in tree_leaves((args, kwargs, out)):
            assert not isinstance(each, torch.Tensor) or each.is_meta, f"{function} on {each.device}"
        return out


class Tape(TorchDispatchMode):
    """A CUDA graph on a CPU: every operator once more, on the same memory, whatever Python would say by now."""

    def __init__(self):
        super().__init__()
        self.calls = []

    def __torch_dispatch__(self, function, types, args=(), kwargs=None):
        out = function(*args, **(kwargs or {}))
        self.calls.append((function, args, kwargs or {}, out))
        return out

    def replay(self):
        for function, args, kwargs, out in self.calls:
            for old, new in zip(tree_leaves(out), tree_leaves(function(*args, **kwargs)), strict=True):
                if isinstance(old, torch.Tensor) and old.data_ptr() != new.data_ptr():
                    old.copy_(new)


class Recordings:
    """A recorder that counts."""

    def __init__(self):
        self.count = 0

    def __call__(self, begin, play):
        self.count += 1
        begin()
        tape = Tape()
        with tape:
            play()
        return tape.replay


@pytest.fixture(autouse=True)
def seen_by_torch(monkeypatch):
    """Noise by torch's operators, as on a GPU; numba's loops are seen by no dispatcher."""
    monkeypatch.setattr(noise.SWITCH, "asked", "reference")


@pytest.fixture
def policy() -> GaussianPolicy:
    torch.manual_seed(5)
    config = PolicyConfig(image_size=16, action_dim=2, proprio_dim=2, widths=(8, 8), hidden=16, history=2)
    return GaussianPolicy(config).eval()


def assert_same(made, wanted) -> None:
    assert made.keys() == wanted.keys()
    for name, each in made.items():
        assert torch.equal(each, wanted[name]), name


def test_a_recording_replays_what_is_played_for_every_seed(imagine, policy, store, world) -> None:
    """Episodes begin anywhere, so that the past of a start is not one frame over and over."""
    starts = load_starts(store, world.config, StartConfig(task=TASK, rows="any"))
    recorder, played = Recordings(), Rollouts(imagine(6, starts=starts))
    recorded = Rollouts(imagine(6, starts=starts), recorder=recorder)
    for seed in (21, 4, 77):
        wanted = copied(played.rollout(policy, value, STEPS, seed))
        assert_same(copied(recorded.rollout(policy, value, STEPS, seed)), wanted)
    assert recorder.count == 1
    assert wanted["terminated"].any() or wanted["truncated"].any(), "some world began anew on the way"


def test_the_worlds_go_on_from_where_a_recording_ends(imagine, policy) -> None:
    worlds = [imagine(6), imagine(6)]
    for each, recorder in zip(worlds, (None, Recordings()), strict=True):
        rollouts = Rollouts(each, recorder=recorder)
        for seed in (3, 9):
            rollouts.rollout(policy, None, STEPS, seed)
    one, other = (each.step(torch.full((6, 2), 0.3)) for each in worlds)
    assert torch.equal(one[0].frames, other[0].frames)
    assert torch.equal(one[1].probability, other[1].probability)


def test_weights_that_learn_in_place_are_seen_and_other_weights_are_recorded_anew(imagine, policy) -> None:
    recorder = Recordings()
    recorded, played = Rollouts(imagine(6), recorder=recorder), Rollouts(imagine(6))
    recorded.rollout(policy, None, STEPS, 1)
    with torch.no_grad():
        for each in policy.parameters():
            each.mul_(1.3)
    assert_same(copied(recorded.rollout(policy, None, STEPS, 1)), copied(played.rollout(policy, None, STEPS, 1)))
    assert recorder.count == 1
    for count, arguments in ((2, (policy, value, STEPS)), (3, (policy, value, STEPS - 1))):
        wanted = copied(played.rollout(*arguments, 2))
        assert_same(copied(recorded.rollout(*arguments, 2)), wanted)
        assert recorder.count == count


def test_a_rollout_asks_the_host_nothing_and_takes_the_same_memory_whatever_happens(imagine, policy) -> None:
    """Also where worlds begin anew in one rollout and not in another."""
    rollouts, traces, ends = Rollouts(imagine(6)), [], []
    for seed in (21, 4, 77):
        rollouts.rollout(policy, value, STEPS, seed)
        guard = Guard()
        rollouts.imagination.past.rewind()
        rollouts.imagination.reset(seed)
        out, sight = rollouts._allocate(policy, STEPS)
        with guard, torch.no_grad():
            rollouts._play(policy, value, out, sight)
        traces.append(guard.trace)
        ends.append(out.terminated.sum(1).tolist())
    assert ends[0] != ends[1] or ends[0] != ends[2]
    assert traces[0] == traces[1] == traces[2]
    assert len(traces[0]) > 100


def test_a_rollout_gives_back_all_the_memory_that_it_takes(imagine, policy) -> None:
    """Once warm: what is kept was allocated before, and no step leaves anything behind."""
    rollouts = Rollouts(imagine(6))
    for seed in (1, 2):
        rollouts.rollout(policy, value, STEPS, seed)
    out, sight = rollouts._allocate(policy, STEPS)
    rollouts.imagination.past.rewind()
    rollouts.imagination.reset(3)
    with torch.profiler.profile(profile_memory=True) as seen, torch.no_grad():
        rollouts._play(policy, value, out, sight)
    sizes = [each.nbytes() for each in seen.profiler.kineto_results.events() if each.name() == "[memory]"]
    assert len(sizes) > 100
    assert sum(sizes) == 0


def test_a_rollout_on_a_device_without_numbers_stays_there(imagine, world, reward, starts, policy) -> None:
    """Nothing of the host's memory is mixed in, as nothing of it may be on a GPU; and what has no number is asked none.

    The reset from a seed is part of it.
    """
    parts = {"world": copy.deepcopy(world), "reward": copy.deepcopy(reward)}
    there = {name: each.to("meta") for name, each in parts.items()}
    rollouts = Rollouts(imagine(6, starts=starts.to("meta"), **there))
    policy = policy.to("meta")
    value = ValueNetwork.beside(policy)
    with Stays():
        out = rollouts.rollout(policy, value, STEPS, 7)
    assert {getattr(out, field.name).device.type for field in dataclasses.fields(out)} == {"meta"}


def test_the_guard_raises_where_a_gpu_would_wait() -> None:
    x = torch.arange(4.0)
    for wrong in (lambda: x.sum().item(), lambda: bool(x[0] > 1), lambda: x[x > 1], lambda: x.nonzero()):
        with Guard(), pytest.raises(AssertionError):
            wrong()
