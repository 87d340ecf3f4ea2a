"""Laws of gather_windows: whatever the sizes, threads and storage, the bits of frames / 127.5 - 1 at the rows."""

import subprocess
import sys
import warnings
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor

from w4rl_kernels import threads as thread_count
from w4rl_kernels.select import select
from w4rl_kernels.window_gather import CHOICE, DTYPES, IMPLEMENTATIONS, cpu, gather_windows

needs_native = pytest.mark.skipif(cpu.unavailable() is not None, reason=f"native module: {cpu.unavailable()}")
SIZES = [(7, 3, 1, 1, 1), (1, 1, 5, 3, 1), (3, 5, 7, 9, 3), (2, 7, 63, 65, 3), (9, 2, 31, 100, 4), (65, 5, 33, 31, 3)]


def draw(b: int, t: int, h: int, w: int, c: int, n: int = 11) -> tuple[Tensor, Tensor]:
    """Frames (n, h, w, c) and unordered, repeated rows (b, t) among which are the first and the last."""
    generator = torch.Generator().manual_seed(b + t + h + w + c)
    frames = torch.randint(0, 256, (n, h, w, c), dtype=torch.uint8, generator=generator)
    rows = torch.randint(0, n, (b, t), generator=generator)
    rows[0, 0], rows[-1, -1] = n - 1, 0
    return frames, rows


def expected(frames: Tensor, rows: Tensor, dtype: torch.dtype) -> Tensor:
    return (frames[rows].float() / 127.5 - 1).to(dtype).permute(0, 1, 4, 2, 3)


def bits(values: Tensor) -> Tensor:
    return values.contiguous().view(torch.int32 if values.dtype is torch.float32 else torch.int16)


def poisoned(rows: Tensor, frames: Tensor, dtype: torch.dtype) -> Tensor:
    return torch.full((*rows.shape, *frames.shape[1:]), torch.nan, dtype=dtype).permute(0, 1, 4, 2, 3)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("threads", [1, 2, 5])
@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("name", ["reference", pytest.param("cpu", marks=needs_native)])
def test_every_implementation_fills_every_value(
    name: str, size: tuple[int, int, int, int, int], threads: int, dtype: torch.dtype
) -> None:
    frames, rows = draw(*size)
    out = poisoned(rows, frames, dtype)
    fill = select("gather_windows", IMPLEMENTATIONS, name).function
    assert fill(frames, rows, out.permute(0, 1, 3, 4, 2), threads) == -1
    assert torch.equal(bits(out), bits(expected(frames, rows, dtype)))


@pytest.mark.parametrize("dtype", DTYPES)
def test_all_levels_are_exact_at_every_place_of_a_vector(dtype: torch.dtype) -> None:
    frames = torch.stack([torch.arange(256, dtype=torch.uint8).roll(shift) for shift in range(64)]).view(64, 1, 256, 1)
    rows = torch.arange(64).view(8, 8)
    assert torch.equal(bits(gather_windows(frames, rows, dtype=dtype)), bits(expected(frames, rows, dtype)))


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("threads", [None, 1, 3])
def test_the_result_is_channels_first_to_read_and_channels_last_in_memory(
    dtype: torch.dtype, threads: int | None
) -> None:
    frames, rows = draw(65, 5, 33, 31, 3)
    result = gather_windows(frames, rows, dtype=dtype, threads=threads)
    assert result.shape == (65, 5, 3, 33, 31)
    assert result.permute(0, 1, 3, 4, 2).is_contiguous()
    assert result.flatten(0, 1).is_contiguous(memory_format=torch.channels_last)
    assert torch.equal(bits(result), bits(expected(frames, rows, dtype)))


@pytest.mark.parametrize("dtype", DTYPES)
def test_a_former_result_is_filled_again(dtype: torch.dtype) -> None:
    frames, rows = draw(3, 5, 7, 9, 3)
    out = poisoned(rows, frames, dtype)
    assert gather_windows(frames, rows, out=out) is out
    assert torch.equal(bits(out), bits(expected(frames, rows, dtype)))


def test_no_window_and_no_frame_in_a_window_are_empty_results() -> None:
    frames, rows = draw(3, 5, 7, 9, 3)
    assert gather_windows(frames, rows[:0]).shape == (0, 5, 3, 7, 9)
    assert gather_windows(frames, rows[:, :0]).shape == (3, 0, 3, 7, 9)


def test_rows_need_not_be_contiguous() -> None:
    frames, rows = draw(5, 3, 7, 9, 3)
    assert torch.equal(gather_windows(frames, rows.T), expected(frames, rows.T, torch.float32))


@pytest.mark.parametrize("row", [-1, 11, 2**40, -(2**63)])
@pytest.mark.parametrize("name", ["reference", pytest.param("cpu", marks=needs_native)])
def test_a_row_outside_is_found_before_anything_is_written(name: str, row: int) -> None:
    frames, rows = draw(3, 5, 7, 9, 3)
    rows[1, 2] = row
    out = poisoned(rows, frames, torch.float32)
    fill = select("gather_windows", IMPLEMENTATIONS, name).function
    assert fill(frames, rows, out.permute(0, 1, 3, 4, 2), 1) == 7
    assert out.isnan().all()


@pytest.mark.parametrize("row", [-1, 11, 2**40])
def test_a_row_outside_is_an_error_that_names_it_and_the_range(row: int) -> None:
    frames, rows = draw(3, 5, 7, 9, 3)
    rows[1, 2] = row
    with pytest.raises(IndexError, match=rf"row {row}: rows lie in \[0, 11\)"):
        gather_windows(frames, rows)


def test_inputs_of_another_kind_are_refused() -> None:
    frames, rows = draw(3, 5, 8, 8, 3)
    good = gather_windows(frames, rows)
    for bad_frames in (frames.float(), frames[0], frames.permute(0, 3, 1, 2)):
        with pytest.raises(ValueError, match="frames are uint8"):
            gather_windows(bad_frames, rows)
    for bad_rows in (rows.int(), rows[0]):
        with pytest.raises(ValueError, match="rows are int64"):
            gather_windows(frames, bad_rows)
    for bad_out in (good[:2], good.half(), good.contiguous()):
        with pytest.raises(ValueError, match="former result"):
            gather_windows(frames, rows, out=bad_out)
    with pytest.raises(ValueError, match="float32 or bfloat16"):
        gather_windows(frames, rows, dtype=torch.float16)
    with pytest.raises(ValueError, match="at least one"):
        gather_windows(frames, rows, threads=0)


def test_frames_may_be_mapped_from_a_file_that_cannot_be_written(tmp_path: Path) -> None:
    frames, rows = draw(3, 5, 7, 9, 3)
    path = tmp_path / "frames"
    path.write_bytes(frames.numpy().tobytes())
    mapped = np.memmap(path, dtype=np.uint8, mode="r", shape=tuple(frames.shape))
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="The given NumPy array is not writable")
        result = gather_windows(torch.from_numpy(mapped), rows)
    assert torch.equal(result, expected(frames, rows, torch.float32))


def test_the_default_leaves_a_core_and_obeys_torch(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch, "get_num_threads", lambda: 64)
    for cores, wanted in ((1, 1), (2, 1), (8, 7)):
        monkeypatch.setattr(thread_count, "physical_cores", lambda cores=cores: cores)
        assert thread_count.default_threads() == wanted
    monkeypatch.setattr(torch, "get_num_threads", lambda: 1)
    assert thread_count.default_threads() == 1


def test_the_operator_keeps_the_rules_of_torch() -> None:
    frames, rows = draw(3, 5, 7, 9, 3)
    out = poisoned(rows, frames, torch.float32).permute(0, 1, 3, 4, 2)
    torch.library.opcheck(torch.ops.w4rl.gather_windows.default, (frames, rows, out, 1))


def test_a_graph_holds_it_whole() -> None:
    frames, rows = draw(3, 5, 7, 9, 3)
    graph = torch.compile(lambda f, r: gather_windows(f, r) * 2, fullgraph=True, backend="aot_eager")
    assert torch.equal(graph(frames, rows), expected(frames, rows, torch.float32) * 2)


@pytest.mark.slow
@pytest.mark.parametrize("dtype", DTYPES)
def test_inductor_compiles_around_it(dtype: torch.dtype) -> None:
    frames, rows = draw(3, 5, 7, 9, 3)
    graph = torch.compile(lambda f, r: gather_windows(f, r, dtype=dtype).float() * 2, fullgraph=True)
    for shift in (0, 1):
        wanted = (rows + shift) % len(frames)
        assert torch.equal(graph(frames, wanted), expected(frames, wanted, dtype).float() * 2)


def test_without_the_native_module_the_reference_runs_and_the_choice_says_why() -> None:
    program = """
import sys
sys.modules["w4rl_kernels._native"] = None
import torch
from w4rl_kernels.window_gather import CHOICE, gather_windows
frames = torch.arange(256, dtype=torch.uint8).view(4, 8, 8, 1)
result = gather_windows(frames, torch.tensor([[3, 0]]))
assert torch.equal(result[0, :, 0], frames[[3, 0], :, :, 0] / 127.5 - 1)
print(CHOICE.name, CHOICE.why)
"""
    path = ":".join(each for each in sys.path if each)
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, env={"PYTHONPATH": path})
    assert done.returncode == 0, done.stderr
    assert done.stdout.startswith("reference cpu: the native module was not built")


@needs_native
def test_the_native_module_is_chosen_where_it_is_there() -> None:
    assert (CHOICE.name, CHOICE.why) == ("cpu", "")
