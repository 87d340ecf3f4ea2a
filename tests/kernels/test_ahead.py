"""Every Triton kernel compiles for every architecture as launches ask, and takes no more than the table says."""

import dataclasses
import functools
import importlib.util
import json
import os
import subprocess
import sys
from collections import defaultdict
from types import SimpleNamespace

import pytest
import torch

from w4rl_fast.data.episode import Schema
from w4rl_fast.imagine.step import Narrow
from w4rl_fast.presets import WORLDS
from w4rl_fast.world.config import SamplingConfig
from w4rl_fast.world.dit import DiT
from w4rl_fast.world.model import Context, Landing, WorldModel
from w4rl_fast.world.unet import UNet
from w4rl_kernels import ahead, attention, edm_step, norm_act
from w4rl_kernels.ahead import ARCHITECTURES, OPS, TABLE, Ahead, Request
from w4rl_kernels.noise import Draw
from w4rl_kernels.probe import triton_release

SIZES = (48, 64)
"""Pixels a side that worlds are imagined at."""
FEW = ("two_hot.embed[bf16]", "attention.grad_kv[64x12x8,bf16]", "norm_act.group[4096x64/2,adaptive,fp32]")
"""The last two spilled before they were cut as they are."""
PARTS = (
    "norm_act.group[", "norm_act.group_grad", "norm_act.layer", "attention.forward", "attention.grad", "two_hot",
    "edm_step", "noise",
)  # fmt: skip
needs_triton = pytest.mark.skipif(importlib.util.find_spec("triton") is None, reason='pip install "w4rl-fast[triton]"')


def compiled(*names: str) -> None:
    """Compile kernels, all if none is named, and compare; in a process of its own: here Triton may be interpreted."""
    environment = {**os.environ, "TRITON_INTERPRET": "0", "PYTHONPATH": os.pathsep.join(sys.path)}
    command = [sys.executable, "-m", "w4rl_kernels.ahead", *names]
    table = json.loads(subprocess.run(command, env=environment, capture_output=True, text=True, check=True).stdout)
    held = json.loads(TABLE.read_text())
    if table["triton"] != held["triton"]:
        pytest.skip("the table holds what another release of Triton gave; write it anew with -m w4rl_kernels.ahead")
    assert list(table["kernels"]) == [name for name in held["kernels"] if name.startswith(names or "")]
    for name, architectures in table["kernels"].items():
        for architecture, taken in architectures.items():
            for resource, amount in taken.items():
                assert amount <= held["kernels"][name][architecture][resource], (name, architecture, resource)


@pytest.mark.slow
@needs_triton
@pytest.mark.parametrize("part", PARTS)
def test_no_kernel_takes_more_than_the_table_says(part) -> None:
    """All of them, in parts that several processes can share."""
    compiled(part)


@needs_triton
def test_a_few_kernels_take_no_more_than_the_table_says() -> None:
    compiled(*FEW)


def test_the_table_holds_every_architecture_and_no_spills() -> None:
    for name, architectures in json.loads(TABLE.read_text())["kernels"].items():
        assert list(architectures) == [f"sm_{number}" for number in ARCHITECTURES], name
        assert all(taken["spilled"] == 0 for taken in architectures.values()), name


@needs_triton
def test_the_table_holds_every_kernel_of_every_op() -> None:
    names = list(json.loads(TABLE.read_text())["kernels"])
    assert names == list(ahead.jobs())
    assert {name.split(".")[0] for name in names} == set(OPS)
    assert all(sum(name.startswith(part) for part in PARTS) == 1 for name in names)


# ---- what launches ask the compiler for


@pytest.fixture
def launches(monkeypatch: pytest.MonkeyPatch) -> list[tuple[list[str], Request]]:
    """The names of arguments and the request of every launch from here on; nothing is compiled or computed."""
    jit = pytest.importorskip("triton.runtime.jit", reason='pip install "w4rl-fast[triton]"')
    if triton_release() != (known := json.loads(TABLE.read_text())["triton"]):
        pytest.skip(f"it asks the inside of Triton {known}, with which the table was made")
    from triton.backends.compiler import GPUTarget
    from triton.compiler import make_backend

    backend, seen = make_backend(GPUTarget("cuda", ARCHITECTURES[0], 32)), []

    @functools.cache
    def compiler_of(kernel):
        options = vars(kernel) | getattr(kernel, "kwargs", {})  # of an interpreted kernel too
        function = jit.JITFunction(kernel.fn, do_not_specialize=options["do_not_specialize"])
        return function, jit.create_function_from_signature(function.signature, function.params, backend)

    def launch(kernel, *given, **named) -> None:
        function, bind = compiler_of(kernel)
        options, signature, constants, attributes = function._pack_args(backend, named, *bind(*given, **named))
        said = {name: getattr(options, name) for name in ("num_warps", "num_stages", "enable_fp_fusion")}
        known = {at: attribute for at, attribute in attributes.items() if attribute}
        seen.append((function.arg_names, Request(signature, constants, known, said)))

    monkeypatch.setattr(
        jit.KernelInterface, "__getitem__", lambda kernel, _: lambda *given, **named: launch(kernel, *given, **named)
    )
    return seen


def class_of(names: list[str], asked: Request) -> str:
    """A request but for what only moves addresses, which are the numbers of heads and of groups."""
    constants = {names[at]: value for (at,), value in asked.constants.items()}
    if "G" in constants:
        constants["C"] //= constants["G"]
    kept = {name: float(value) for name, value in constants.items() if name not in ("H", "G", "INTERPRETED")}
    return str((names, sorted(asked.signature.items()), sorted(kept.items()), asked.attributes, asked.options))


def held(op: str) -> set[str]:
    jobs: dict[str, Ahead] = {name: job for name, job in ahead.jobs().items() if name.startswith(f"{op}.")}
    return {class_of(job.kernel.arg_names, ahead.request(job)) for job in jobs.values()}


@pytest.fixture
def asked(monkeypatch: pytest.MonkeyPatch):
    """What is asked of an op from here on."""
    found = defaultdict(set)

    def heard(op, *facts):
        found[op].add(problem := op.Problem(*facts))
        return problem

    for op in (attention, norm_act):
        monkeypatch.setattr(op.SWITCH, "_answers", {})
        monkeypatch.setattr(op.SWITCH, "problems", functools.partial(heard, op))
    return found


def call_backbone(preset: str, size: int) -> None:
    """Once, on pictures that are not there."""
    schema = Schema(image_size=size, action_low=(-1.0,), action_high=(1.0,), proprio_dim=1)
    world = WORLDS[preset](schema).world
    with torch.device("meta"), torch.no_grad():
        network = UNet(world.backbone, 3, 3)
        if world.transformer is not None:
            network = DiT(world.transformer, size // world.transformer.patch, 3, 3)
        network(torch.empty(2, 3, size, size), torch.empty(2, world.network.condition_dim))


def attend(problem: attention.Problem, dtype: torch.dtype) -> None:
    from w4rl_kernels.attention import gpu

    qkv = torch.empty(2, problem.tokens, 3, problem.heads, problem.features, dtype=dtype)
    out, lse = gpu.attention(qkv, problem.frame, problem.window)
    gpu.attention_backward(torch.empty_like(out), qkv, out, lse, problem.frame, problem.window)


def norm(problem: norm_act.Problem, dtype: torch.dtype) -> None:
    """Scales and shifts of a picture are parts of one tensor, as the networks give them."""
    from w4rl_kernels.norm_act import gpu

    x = torch.empty(2, problem.positions, problem.channels, dtype=dtype)
    if problem.norm == "layer":
        scale, shift = torch.empty(2, 1, 6 * problem.channels, dtype=dtype).chunk(6, 2)[:2]
        _, *saved = gpu.layer(x, scale[:, 0], shift[:, 0], 1e-5)
        gpu.layer_backward(x, x, scale[:, 0], shift[:, 0], *saved)
        return
    if problem.scaled_by == "channel":
        gain, shift = (torch.empty(problem.channels, dtype=dtype) for _ in range(2))
    else:
        gain, shift = torch.empty(2, 2 * problem.channels, dtype=dtype).chunk(2, 1)
    _, *saved = gpu.group(x, gain, shift, problem.groups, 1e-5, problem.act)
    gpu.group_backward(x, x, gain, shift, *saved, problem.groups, problem.act)


CALLS = {attention: attend, norm_act: norm}


@pytest.mark.parametrize("preset", WORLDS)
def test_the_table_holds_what_a_preset_launches(preset, launches, asked) -> None:
    """As Triton itself describes it: types, constants, what is aligned, options; in float16 a forward of each op."""
    for size in SIZES:
        call_backbone(preset, size)
    for op, problems in asked.items():
        rows, half = held(op.__name__.split(".")[-1]), False
        for problem in sorted(problems, key=str):
            for dtype in (torch.float32, torch.bfloat16, torch.float16):
                launches.clear()
                CALLS[op](problem, dtype)
                there = [class_of(*launch) in rows for launch in launches]
                assert len(there) >= 2
                assert dtype is torch.float16 or all(there), (problem, dtype, there)
                half |= dtype is torch.float16 and there[0]
        assert half, op


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_the_table_holds_what_masks_and_embeddings_launch(launches, dtype) -> None:
    from w4rl_kernels.two_hot import gpu

    for frame, window, tokens, heads in ((144, 0, 576, 128), (64, 2, 256, 12)):
        attend(attention.Problem(tokens, heads, 8, dtype, frame, window), dtype)
    rows = held("attention")
    assert [class_of(*launch) in rows for launch in launches] == [True] * 6
    launches.clear()
    x, table = torch.empty(1024, 4, dtype=dtype), torch.empty(4, 21, 256, dtype=dtype)
    low, high = torch.empty(4), torch.empty(4)
    gpu.embed_backward(gpu.embed(x, table, low, high), x, table, low, high)
    rows = held("two_hot")
    assert [class_of(*launch) in rows for launch in launches] == [True] * 3


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("preset", WORLDS)
def test_the_table_holds_what_a_sample_launches(preset, dtype, launches, monkeypatch) -> None:
    """A frame that lands where it is remembered, drawn by a network in either dtype, divided as on a GPU."""
    from w4rl_kernels.edm_step import gpu

    def finish(*given):
        *first, slot, _, frames, made = given
        return gpu.finish(*first, slot, frames, made, True)

    way = SimpleNamespace(start=gpu.start, advance=lambda *given: gpu.advance(*given, True), finish=finish)
    monkeypatch.setattr(edm_step, "operators", way)
    monkeypatch.setattr(edm_step.SWITCH, "of", lambda *_: "gpu")
    for size in SIZES:
        sample(preset, size, dtype)
    rows = held("edm_step")
    assert [class_of(*launch) in rows for launch in launches] == [True] * 4 * len(SIZES)


def sample(preset: str, size: int, dtype: torch.dtype) -> None:
    """In three steps, of two worlds that are not there."""
    schema = Schema(image_size=size, action_low=(-1.0,) * 4, action_high=(1.0,) * 4, proprio_dim=4)
    of = dataclasses.replace(WORLDS[preset](schema).world, sampling=SamplingConfig())
    pixels = (3, size, size)
    with torch.device("meta"), torch.no_grad():
        world = WorldModel(of)
        setattr(world, "unet" if of.transformer is None else "dit", Narrow(world.backbone, dtype))
        context = Context(
            torch.empty(2, of.history, *pixels), torch.empty(2, of.history, 4), torch.empty(2, of.history, 4),
            torch.empty(2, *pixels),
        )  # fmt: skip
        ring = torch.empty(2, of.history, *pixels, dtype=torch.uint8)
        where = torch.zeros(2, dtype=torch.int64)
        landing = Landing(torch.empty(2, *pixels, dtype=torch.uint8), ring, 1)
        world(context, Draw(where, where, where), landing=landing)


def test_the_table_holds_what_noise_launches(launches) -> None:
    from w4rl_kernels.noise import gpu

    where = (torch.zeros(2, dtype=torch.int64),) * 3
    gpu.normal(*where, 0, torch.empty(2, 6912))
    gpu.bits(*where, 48, 0)
    rows = held("noise")
    assert [class_of(*launch) in rows for launch in launches] == [True] * 2


# ---- the table


def test_rows_that_are_written_leave_the_others(monkeypatch) -> None:
    monkeypatch.setattr(ahead, "jobs", lambda: dict.fromkeys(("one.a", "two.b", "two.c")))
    before = {"triton": "1", "kernels": {"one.a": 1, "two.gone": 2, "two.b": 2}}
    made = {"triton": "1", "kernels": {"two.b": 3, "two.c": 3}}
    assert ahead.merged(made, before) == {"triton": "1", "kernels": {"one.a": 1, "two.b": 3, "two.c": 3}}
    with pytest.raises(ValueError, match="of one release"):
        ahead.merged({**made, "triton": "2"}, before)
    whole = {"triton": "2", "kernels": dict.fromkeys(("one.a", "two.b", "two.c"), 4)}
    assert ahead.merged(whole, before) == whole
