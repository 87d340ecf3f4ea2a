"""The engine: no word from the host in a step, memory taken once, and what it refuses."""

import hashlib
import re

import pytest
import torch
from torch.utils._python_dispatch import TorchDispatchMode

from w4rl_fast.errors import UserError
from w4rl_fast.imagine import Imagination, ImaginationConfig, fits, memory, memory_plan

SYNCHRONISING = ("_local_scalar_dense", "nonzero", "masked_select", "is_nonzero", "unique", "equal", "where.self_int")


class Guard(TorchDispatchMode):
    """Refuses operators that wait for a result or whose shape depends on one, and notes the largest new memory."""

    def __init__(self) -> None:
        super().__init__()
        self.largest, self.watching = 0, True

    def __torch_dispatch__(self, function, types, args=(), kwargs=None):
        name = str(function)
        by_mask = "aten.index" in name and any(
            torch.is_tensor(each) and each.dtype is torch.bool
            for group in args
            if isinstance(group, (tuple, list))
            for each in group
        )
        if by_mask or any(f"aten.{word}" in name for word in SYNCHRONISING):
            raise AssertionError(f"{name} waits for the host")
        out = function(*args, **(kwargs or {}))
        there = {
            each.untyped_storage().data_ptr() for each in (*args, *(kwargs or {}).values()) if torch.is_tensor(each)
        }
        for each in out if isinstance(out, (tuple, list)) else (out,):
            if self.watching and torch.is_tensor(each) and each.untyped_storage().data_ptr() not in there:
                self.largest = max(self.largest, each.untyped_storage().nbytes())
        return out


@torch.no_grad()
def test_a_step_never_waits_and_allocates_nothing_that_grows_with_the_worlds(imagine) -> None:
    imagination = imagine(32, slice_size=4)
    inner, guard = imagination.run, Guard()

    def unwatched(*inputs):
        guard.watching = False
        try:
            return inner(*inputs)
        finally:
            guard.watching = True

    imagination.run = unwatched
    imagination.reset(0)
    acted = torch.zeros(32, 2)
    imagination.step(acted)
    with guard:
        for _ in range(7):
            imagination.step(acted)
    a_frame, a_slice = 3 * 16 * 16, 4
    assert guard.largest <= 4 * a_frame * a_slice, "one slice of frames, on its way to bytes"


def test_the_guard_catches_what_it_should() -> None:
    mask = torch.tensor([True, False])
    for waits in (
        lambda: bool(mask.any()),
        lambda: mask[0].item(),
        lambda: mask.nonzero(),
        lambda: torch.ones(2)[mask],
    ):
        with pytest.raises(AssertionError, match="waits"), Guard():
            waits()


def test_memory_that_is_shown_is_used_again_and_a_copy_stays(imagine, actions) -> None:
    imagination = imagine()
    shown = imagination.reset(0)
    kept = shown.frames.clone()
    for acted in actions(4, 6):
        imagination.step(acted)
    assert not torch.equal(shown.frames, kept), "what is shown aliases the ring"
    assert shown.frames.untyped_storage().data_ptr() == imagination.past.frames.untyped_storage().data_ptr()


def test_no_memory_is_read_before_it_is_written(imagine, actions) -> None:
    """Poison everything that a reset has to fill."""
    clean, poisoned = imagine(), imagine()
    past = poisoned.past
    for tensor in (past.proprio, past.actions, past.scene, poisoned.noise, poisoned.logit, *past.inputs):
        tensor.fill_(torch.nan)
    for tensor in (past.frames, past.anchor, past.fresh_frames, past.fresh_anchor, poisoned.frames):
        tensor.fill_(93)
    clean.reset(1)
    poisoned.reset(1)
    for acted in actions(9, 6):
        for one, other in zip(clean.step(acted), poisoned.step(acted), strict=True):
            assert all(torch.equal(a, b) for a, b in zip(one, other, strict=True))


def test_the_weights_stay_as_they_are(imagine, actions) -> None:
    imagination = imagine()

    def digest():
        return hashlib.sha256(b"".join(t.numpy().tobytes() for t in imagination.module.state_dict().values())).digest()

    before = digest()
    imagination.reset(0)
    for acted in actions(6, 6):
        seen, outcome, _ = imagination.step(acted.requires_grad_(True))
        assert not any(each.requires_grad for each in (*seen, *outcome))
    assert digest() == before


def test_a_compiled_engine_says_the_same_within_a_grey_level(imagine, actions) -> None:
    pytest.importorskip("torch._inductor")
    eager, compiled = (
        imagine(4),
        imagine(4, engine=torch.compile(imagine(4).module, backend="aot_eager", fullgraph=True)),
    )
    eager.reset(0)
    compiled.reset(0)
    for acted in actions(3, 4):
        (one, _, _), (other, _, _) = eager.step(acted), compiled.step(acted)
        assert (one.frames.int() - other.frames.int()).abs().max() <= 1


@pytest.mark.parametrize("worlds", [1, 5, 64])
def test_the_plan_says_what_the_worlds_take(imagine, world, reward, worlds) -> None:
    imagination = imagine(worlds, slice_size=4)
    tensors = [*vars(imagination).values(), *vars(imagination.past).values(), *imagination.past.inputs]
    shared = {id(imagination.past.scenes)}
    taken = sum(each.nbytes for each in tensors if torch.is_tensor(each) and id(each) not in shared)
    plan = memory_plan(world, reward, imagination.config)
    assert plan.worlds == pytest.approx(taken, rel=0.2)
    assert plan.weights == sum(each.nbytes for each in imagination.module.state_dict().values())


def test_as_many_worlds_fit_as_the_plan_allows(world, reward) -> None:
    config = ImaginationConfig(slice_size=8)
    number = fits(300 << 20, world, reward, config, steps=20)

    def total(worlds):
        return memory_plan(world, reward, ImaginationConfig(num_worlds=worlds, slice_size=8), steps=20).total

    assert total(number) <= 300 << 20 < total(number + 8)
    assert fits(1 << 20, world, reward, config) == 0


def test_more_worlds_than_there_is_memory_for_are_refused(imagine, monkeypatch) -> None:
    monkeypatch.setattr(memory, "available_bytes", lambda _: 200 << 20)
    with pytest.raises(UserError, match="of memory are free") as caught:
        imagine(10**6)
    number = int(re.search(r"num_worlds=(\d+) or fewer", str(caught.value))[1])
    imagine(min(number, 64))
    with pytest.raises(UserError, match="of memory are free"):
        imagine(number + 8)


@pytest.mark.parametrize(
    ("do", "said"),
    [
        (lambda im: im.step(torch.zeros(6, 2)), "before the first reset"),
        (lambda im: im.reset(0, mask=torch.ones(6, dtype=torch.bool)), "first reset"),
        (lambda im: im.reset([1, 2, 3]), "3 seeds"),
        (lambda im: (im.reset(0), im.step(torch.zeros(6, 3))), "one for each world"),
    ],
)
def test_what_cannot_be_done_is_said(imagine, do, said) -> None:
    with pytest.raises(UserError, match=said):
        do(imagine())


def test_an_engine_that_does_not_exist_is_refused(imagine) -> None:
    with pytest.raises(UserError, match="auto, eager, compiled"):
        imagine(engine="openvono")


def test_auto_is_eager_and_says_so(imagine) -> None:
    assert imagine(engine="auto").engine == "eager"


@pytest.mark.parametrize("wrong", [{"num_worlds": 0}, {"horizon": 0}, {"slice_size": 0}])
def test_counts_are_at_least_one(wrong) -> None:
    with pytest.raises(ValueError, match="at least 1"):
        ImaginationConfig(**wrong)


def test_the_public_name_is_the_engine() -> None:
    assert Imagination.__module__ == "w4rl_fast.imagine.engine"
