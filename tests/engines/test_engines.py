"""What every backend that runs here must keep: the numbers, the memory, and peace with its neighbours."""

from concurrent.futures import ProcessPoolExecutor, ThreadPoolExecutor
from multiprocessing import get_context

import pytest
import torch

from w4rl_engines import registry
from w4rl_engines.backends import backend_module
from w4rl_engines.errors import EngineError
from w4rl_engines.load import load

ALIASING = {"onnxruntime", "openvino"}
"""Backends whose outputs are the engine's own memory; the others give new tensors."""
SLOW = {"compiled", "aoti"}
HERE = [name for name in registry.BACKENDS if registry.unavailable(name) is None]


def with_speed(names):
    return [pytest.param(name, marks=[pytest.mark.slow] if name in SLOW else []) for name in names]


@pytest.fixture(scope="module")
def built(tmp_path_factory):
    """Artifacts by case, backend and precision, each built once."""
    kept = {}

    def get(case, backend, precision="float32", batches=(3, 8)):
        key = (id(case.module), backend, precision)
        if key not in kept:
            kept[key] = case.build(
                tmp_path_factory.mktemp(backend) / "a", backend, precision=precision, batches=batches
            )
        return kept[key].folder

    return get


def close(case, ours, theirs, precision="float32") -> None:
    share = {"float32": 1e-4, "bfloat16": 0.1, "bfloat16-fast": 0.1, "int8": 0.3}[precision]
    for port, a, b in zip(case.spec.outputs, ours, theirs, strict=True):
        assert a.dtype is b.dtype is port.torch_dtype
        if a.dtype is torch.uint8:
            off = (a.float() - b.float()).abs()
            assert off.mean() < (0.01 if precision == "float32" else 2)
        else:
            torch.testing.assert_close(a, b, atol=share * float(b.abs().max()), rtol=0)


def truth(case, given):
    with torch.no_grad():
        out = case.module.eval()(*given)
    return (out,) if isinstance(out, torch.Tensor) else out


@pytest.mark.parametrize("backend", with_speed(HERE))
def test_an_engine_says_what_the_module_says_on_rows_it_never_saw(built, case, backend) -> None:
    for batch in (3, 8):
        engine = load(built(case, backend), batch=batch, threads=1)
        given = case.batch(batch)
        close(case, engine(*given), truth(case, given))
        assert (engine.spec, engine.batch) == (case.spec, batch)


@pytest.mark.parametrize(
    ("backend", "precision"),
    [
        pytest.param(name, precision, marks=[pytest.mark.slow] if {name, precision} & {*SLOW, "int8"} else [])
        for name in HERE
        for precision in registry.backend(name).precisions
        if precision != "float32"
    ],
)
def test_fewer_bits_stay_near(built, case, backend, precision) -> None:
    engine, given = load(built(case, backend, precision), batch=8, threads=1), case.batch(8)
    close(case, engine(*given), truth(case, given), precision)


@pytest.mark.parametrize("backend", with_speed(HERE))
def test_outputs_alias_the_engine_exactly_where_that_is_said(built, small_world, backend) -> None:
    engine = load(built(small_world, backend), batch=3, threads=1)
    first, second = small_world.batch(3, 1), small_world.batch(3, 2)
    out = engine(*first)
    kept = [each.clone() for each in out]
    before = [each.clone() for each in first]
    later = engine(*second)
    close(small_world, later, truth(small_world, second))
    close(small_world, kept, truth(small_world, first))
    assert all(torch.equal(a, b) for a, b in zip(first, before, strict=True)), "inputs are only read"
    assert all((a.data_ptr() == b.data_ptr()) == (backend in ALIASING) for a, b in zip(out, later, strict=True))
    assert all(torch.equal(a, b) for a, b in zip(out, kept, strict=True)) == (backend not in ALIASING)


@pytest.mark.parametrize("backend", with_speed(HERE))
def test_two_engines_do_not_disturb_each_other(built, small_world, convolutions, backend) -> None:
    world, eyes = (load(built(case, backend), batch=3, threads=1) for case in (small_world, convolutions))
    twin = load(built(small_world, backend), batch=3, threads=1)
    mine, yours, seen = small_world.batch(3, 3), small_world.batch(3, 4), convolutions.batch(3)
    first = world(*mine)
    twin(*yours)
    eyes(*seen)
    close(small_world, first, truth(small_world, mine))


@pytest.mark.parametrize("backend", with_speed(HERE))
def test_engines_run_side_by_side_in_threads(built, small_world, backend) -> None:
    folder = built(small_world, backend)

    def work(engine, seed: int) -> bool:
        given = small_world.batch(3, seed)
        wanted = truth(small_world, given)[1]
        return all(torch.allclose(engine(*given)[1], wanted, atol=1e-4) for _ in range(20))

    with ThreadPoolExecutor(2) as pool:
        engines = pool.map(lambda _: load(folder, batch=3, threads=1), (1, 2))
        assert all(pool.map(work, list(engines), (1, 2)))


def run_alone(folder, given):
    """What an engine says in a process that has seen nothing else."""
    torch.set_num_threads(1)
    return [out.clone() for out in load(folder, batch=3, threads=1)(*given)]


@pytest.mark.slow
@pytest.mark.parametrize("backend", HERE)
def test_engines_work_in_spawned_processes(built, small_world, backend) -> None:
    given = [small_world.batch(3, seed) for seed in (5, 6)]
    folder = built(small_world, backend)
    with ProcessPoolExecutor(2, mp_context=get_context("spawn")) as pool:
        said = list(pool.map(run_alone, [folder, folder], given))
    for each, rows in zip(said, given, strict=True):
        close(small_world, each, truth(small_world, rows))


@pytest.mark.parametrize("backend", with_speed(HERE))
def test_what_does_not_fit_is_refused_before_it_is_read(built, small_world, backend) -> None:
    engine = load(built(small_world, backend), batch=3, threads=1)
    history, actions, noise = small_world.batch(3)
    for wrong in (
        (history, actions),
        (history[:2], actions[:2], noise[:2]),
        (history.float(), actions, noise),
        (history, actions[:, :1], noise),
        (history, actions.double(), noise),
    ):
        with pytest.raises(EngineError, match="this engine takes"):
            engine(*wrong)
    turned = noise.transpose(2, 3).contiguous().transpose(2, 3)
    close(small_world, engine(history, actions, turned), truth(small_world, (history, actions, noise)))


def test_every_backend_has_its_file_and_says_whether_it_works() -> None:
    for name, backend in registry.BACKENDS.items():
        module = backend_module(name)
        assert callable(module.build)
        assert callable(module.load)
        if backend.module != "tensorrt":
            assert module.unavailable() == registry.unavailable(name)


@pytest.mark.slow
def test_a_poisoned_cache_of_compiled_code_is_refused(built, convolutions, monkeypatch) -> None:
    """As if another program's machine code lay under this one's key in the cache of torch."""
    folder = built(convolutions, "compiled")
    real = backend_module("compiled").compile_fx

    def poisoned(*given, **named):
        run = real(*given, **named)
        return lambda *tensors: [out * 1.5 for out in run(*tensors)]

    monkeypatch.setattr("w4rl_engines.compiled.compile_fx", poisoned)
    with pytest.raises(EngineError, match="something else than its program"):
        load(folder, batch=3)


@pytest.mark.slow
def test_a_compiled_engine_that_was_not_compiled_is_an_error(built, convolutions, monkeypatch) -> None:
    folder = built(convolutions, "compiled")
    monkeypatch.setattr(torch, "compile", lambda module, **_: module)
    with pytest.raises(EngineError, match="uncompiled"):
        load(folder, batch=3)


def test_no_blob_names_the_folders_of_the_machine_it_was_built_on(built, small_world) -> None:
    for backend in set(HERE) & {"eager", "onnxruntime", "openvino"}:
        for path in built(small_world, backend).iterdir():
            assert __file__.encode() not in path.read_bytes()
            assert b"conftest.py" not in path.read_bytes()
