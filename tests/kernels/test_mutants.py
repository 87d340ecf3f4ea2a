"""Triton's kernels with one mistake each, of the kind that is easily made: every one breaks the law of its op.

A mutant is a copy of an op's gpu.py in which one text stands for another; a law is made of that op's own tests, by
import, on shapes as small as show the mistakes.
"""

import importlib
import importlib.util
import os
from collections.abc import Callable
from pathlib import Path
from types import ModuleType
from typing import NamedTuple

import pytest
import torch

from tests.kernels import test_attention as attention_tests
from tests.kernels import test_edm_step as edm_tests
from tests.kernels import test_norm_act as norm_tests
from w4rl_kernels import edm_step
from w4rl_kernels.noise import reference as noise
from w4rl_kernels.norm_act import traffic

pytestmark = [
    pytest.mark.filterwarnings("ignore::RuntimeWarning:triton"),
    pytest.mark.skipif(
        importlib.util.find_spec("triton") is None or os.environ.get("TRITON_INTERPRET") != "1",
        reason='pip install "w4rl-fast[triton]", and set TRITON_INTERPRET=1 for the whole run',
    ),
]
poisoned = attention_tests.poisoned


class Change(NamedTuple):
    """A text of the kernels and what takes its place; it occurs so many times, or the change is out of date."""

    old: str
    new: str
    times: int = 1


ATTENTION = {
    "softmax without its scale": Change("to_log2: tl.constexpr = D**-0.5 * LOG2E", "to_log2: tl.constexpr = LOG2E", 3),
    "a frame sees one key more": Change("(key < stop)", "(key <= stop)"),
    "a token behind the last is seen": Change("return key < stop", "return key <= stop"),
    "a window begins one key late": Change("(key >= start)", "(key > start)"),
    "a frame sees the next": Change("(query // FRAME + 1) * FRAME", "(query // FRAME + 2) * FRAME"),
    "a window one frame longer": Change("query // FRAME - WINDOW + 1, 0", "query // FRAME - WINDOW, 0"),
    "a window one frame shorter": Change("query // FRAME - WINDOW + 1, 0", "query // FRAME - WINDOW + 2, 0"),
    "no mask": Change("scores = tl.where(sees(query[:, None], key[None, :], N, FRAME, WINDOW), scores, ", "(0.0, "),
    "no mask of the tail": Change("if FRAME or N % STEP:\n                scores", "if FRAME:\n                scores"),
    "no maximum of earlier keys": Change("tl.maximum(highest, tl.max(scores, axis=1) * to_log2)",
                                         "tl.max(scores, axis=1) * to_log2"),
    "nothing fades as the maximum grows": Change("fade = tl.exp2(highest - now)", "fade = tl.exp2(now - now)"),
    "the sum of shares does not fade": Change("weight = weight * fade +", "weight = weight +"),
    "mixed values do not fade": Change("total = total * fade[:, None] +", "total = total +"),
    "shares are not divided by their sum": Change("total / weight[:, None]", "total"),
    "the norm without its sum": Change("(highest + tl.log2(weight)) / LOG2E", "highest / LOG2E"),
    "groups of heads overlap": Change("group % (H // HEADS) * HEADS", "group % (H // HEADS)"),
    "dq: no mask": Change("shares = tl.where(sees(query[:, None], key[None, :], N, FRAME, WINDOW), shares, ", "(0.0, "),
    "dq: no mask of the tail": Change("if FRAME or N % STEP:\n                shares",
                                      "if FRAME:\n                shares"),
    "dq: mask off by one": Change("sees(query[:, None], key[None, :], N, FRAME, WINDOW), shares",
                                  "sees(query[:, None], key[None, :] - 1, N, FRAME, WINDOW), shares"),
    "dq: shares without the scale": Change("tl.trans(k), INTERPRETED) * to_log2", "tl.trans(k), INTERPRETED) * LOG2E"),
    "dq: delta left out": Change("tl.trans(v), INTERPRETED) - product[:, None])", "tl.trans(v), INTERPRETED))"),
    "dq: scale left out": Change("total * D**-0.5", "total"),
    "dk: no mask": Change("shares = tl.where(sees(query[None, :], key[:, None], N, FRAME, WINDOW), shares, ", "(0.0, "),
    "dk: mask off by one": Change("sees(query[None, :], key[:, None], N", "sees(query[None, :], key[:, None] + 1, N"),
    "dk: shares without the scale": Change("tl.trans(q), INTERPRETED) * to_log2", "tl.trans(q), INTERPRETED) * LOG2E"),
    "dk: delta left out": Change("tl.trans(upstream), INTERPRETED) - product[None, :])",
                                 "tl.trans(upstream), INTERPRETED))"),
    "dk: scale left out": Change("grad_k * D**-0.5", "grad_k"),
    "dk: queries begin one frame late": Change("first // FRAME * FRAME", "(first // FRAME + 1) * FRAME"),
    "dk: queries end one frame early": Change("// FRAME + WINDOW) * FRAME, N)", "// FRAME + WINDOW - 1) * FRAME, N)"),
    "dk: queries end with the first key's window": Change("(first + SIZE - 1) // FRAME", "first // FRAME"),
    "dv: values weigh alike": Change("multiply(shares.to(q.dtype)", "multiply((shares * 0 + 1.0).to(q.dtype)"),
}  # fmt: skip

DX = "rstd * (slope * factor[None, :] - level - normed * tilt)"
VARIANCE, LOOPED, OF_TOKENS = (
    "tl.sum(centred * centred) / (P * width)",
    "tl.sum(squares + seen * apart * apart) / (P * width)",
    "tl.sum(centred * centred, axis=1) / W",
)
GROUP_NORM = {
    "the 1 of (1 + scale) left out": Change("factor = ONE + tl.load(", "factor = tl.load("),
    "shift left out": Change("out = normed * factor[None, :] + offset[None, :]", "out = normed * factor[None, :]"),
    "scale by the steps of shift": Change("gain + picture * gain_stride", "gain + picture * shift_stride"),
    "shift by the steps of scale": Change("shift + picture * shift_stride", "shift + picture * gain_stride"),
    "scale of the first picture": Change("gain + picture * gain_stride", "gain"),
    "SiLU left out": Change("out = out * tl.sigmoid(out)", "out = out"),
    "SiLU's derivative without its second term": Change("half * (1.0 + before * (1.0 - half))", "half"),
    "SiLU's derivative without shift": Change("before = normed * factor[None, :] + offset[None, :]",
                                              "before = normed * factor[None, :]"),
    "mean over padding too": Change("mean = tl.sum(values) / (P * width)", "mean = tl.sum(values) / (ROWS * COLUMNS)"),
    "variance over padding too": Change(VARIANCE, "tl.sum(centred * centred) / (ROWS * COLUMNS)"),
    "padding in the variance": Change("centred = tl.where(live, values - mean, 0.0)", "centred = values - mean"),
    "variance not centred": Change(VARIANCE, "tl.sum(values * values) / (P * width)"),
    "variance as a difference": Change(VARIANCE, "(tl.sum(values * values) / (P * width) - mean * mean)"),
    "eps left out": Change(f"{VARIANCE} + eps", VARIANCE),
    "eps outside of the root": Change(f"1.0 / tl.sqrt({VARIANCE} + eps)", f"1.0 / (tl.sqrt({VARIANCE}) + eps)"),
    "dx: mean of the gradient left out": Change(f"\n        out = {DX}",
                                                f"\n        out = {DX.replace('- level', '')}"),
    "dx: its part along x left out": Change(f"\n        out = {DX}",
                                            f"\n        out = {DX.replace('- normed * tilt', '')}"),
    "dx: deviation left out": Change(f"\n        out = {DX}", f"\n        out = {DX.removeprefix('rstd *')}"),
    "dx: scale left out of the mean": Change("tl.sum(factor * of_shift)", "tl.sum(of_shift)", 2),
    "dx: means over padding too": Change("tl.sum(factor * of_gain) / (P * width)",
                                         "tl.sum(factor * of_gain) / (ROWS * COLUMNS)", 2),
    "gradient of scale without x": Change("tl.sum(slope * normed, axis=0)", "tl.sum(slope, axis=0)"),
    "gradient of shift in another picture's row": Change("grad_shift + picture * C", "grad_shift + picture // 2 * C"),
}  # fmt: skip
GROUP_NORM_READ_TWICE = {
    "padding in a lane's mean": Change("step = tl.where(live, values - own, 0.0)", "step = values - own"),
    "a lane's mean over one value more": Change("step / (first // ROWS + 1)", "step / (first // ROWS + 2)"),
    "squares about the old mean": Change("squares += step * (values - own)", "squares += step * step"),
    "every lane counts as full": Change("(P - row + ROWS - 1) // ROWS", "(P - row * 0 + ROWS - 1) // ROWS"),
    "columns of padding count": Change("tl.where(inside[None, :], ((P", "tl.where(inside[None, :] | True, ((P"),
    "lanes weigh alike": Change("seen * apart * apart", "apart * apart"),
    "eps left out": Change(f"{LOOPED} + eps", LOOPED),
    "eps outside of the root": Change(f"1.0 / tl.sqrt({LOOPED} + eps)", f"1.0 / (tl.sqrt({LOOPED}) + eps)"),
    "values are not centred": Change("finish((values - mean) * rstd", "finish(values * rstd"),
    "dx: mean of the gradient left out": Change(f"    out = {DX}\n            ",
                                                f"    out = {DX.replace('- level', '')}\n            "),
    "dx: its part along x left out": Change(f"    out = {DX}\n            ",
                                            f"    out = {DX.replace('- normed * tilt', '')}\n            "),
    "gradient of scale of the last positions": Change("gains += slope * normed", "gains = slope * normed"),
    "gradient of shift of the last positions": Change("shifts += slope\n", "shifts = slope\n"),
}  # fmt: skip
LAYER_NORM = {
    "the 1 of (1 + scale) left out": Change("column < W, True, 1.0)", "column < W, True, 0.0)"),
    "mean over padding too": Change("tl.sum(values, axis=1) / W", "tl.sum(values, axis=1) / COLUMNS"),
    "padding in the variance": Change("tl.where(live, values - mean[:, None], 0.0)", "values - mean[:, None]"),
    "variance not centred": Change(OF_TOKENS, "tl.sum(values * values, axis=1) / W"),
    "variance as a difference": Change(OF_TOKENS, "(tl.sum(values * values, axis=1) / W - mean * mean)"),
    "eps left out": Change(f"{OF_TOKENS} + eps", OF_TOKENS),
    "eps outside of the root": Change(f"tl.sqrt({OF_TOKENS} + eps)", f"(tl.sqrt({OF_TOKENS}) + eps)"),
    "dx: the 1 of (1 + scale) left out": Change("factor = 1.0 + tl.load(", "factor = tl.load("),
    "dx: mean of the gradient left out": Change("slope - level[:, None] - normed", "slope - normed"),
    "dx: its part along x left out": Change("level[:, None] - normed * tilt[:, None]", "level[:, None]"),
    "dx: means over padding too": Change("tl.sum(slope, axis=1) / W", "tl.sum(slope, axis=1) / COLUMNS"),
    "gradient of scale of the last tokens": Change("scales += upstream", "scales = upstream"),
    "gradient of shift of the last tokens": Change("shifts += upstream", "shifts = upstream"),
    "gradient of shift in another row": Change("grad_shift + at,", "grad_shift + at // 2,"),
}

EDM_STEP = {
    "a stale index of the ring": Change("tl.load(turned) if TURNED", "tl.load(turned) - 1 if TURNED"),
    "a stale slot of the ring": Change("else slot.to(tl.int64)", "else slot.to(tl.int64) - 1"),
    "the ring by the steps of frames": Change("ring + picture * ring_picture", "ring + picture * frames_picture"),
    "frames by the steps of slots": Change("frames + picture * frames_picture", "frames + picture * ring_slot"),
    "a slot behind the ring is written": Change("(place < slots)", "(place <= slots)"),
    "a slot before the ring is written": Change("(place >= 0)", "(place >= -1)"),
    "skip and out exchanged": Change("x * skip + raw * out", "x * out + raw * skip"),
    "skip left out": Change("x * skip + raw * out", "x + raw * out"),
    "base left out of bytes": Change("frame = base + target * 2.0 if BASED", "frame = target * 2.0 if BASED"),
    "base left in behind bytes": Change("target = (frame - base) * 0.5 if BASED", "target = frame * 0.5 if BASED"),
    "base left out at the end": Change("known + there * 2.0 if BASED", "there * 2.0 if BASED"),
    "no rounding inside of a step": Change("target = (frame - base) * 0.5 if BASED else frame", "target = target"),
    "bytes rounded down": Change("(frame + 1.0) * HALF_BYTES + ROUNDS_OFF - ROUNDS_OFF",
                                 "tl.floor((frame + 1.0) * HALF_BYTES)"),
    "halves rounded up": Change("(frame + 1.0) * HALF_BYTES + ROUNDS_OFF - ROUNDS_OFF",
                                "tl.floor((frame + 1.0) * HALF_BYTES + 0.5)"),
    "not clamped from above": Change("tl.where(frame > 1.0, 1.0, frame)", "frame"),
    "the level of the step's end": Change("sigma, inverse(sigma), after - sigma",
                                          "after, inverse(after), after - sigma"),
    "a step backwards": Change("after - sigma, into", "sigma - after, into"),
    "the last step is not to zero": Change("0.0 - sigma", "0.1 - sigma"),
    "a step from the clean picture": Change("return x + over(", "return target + over("),
    "a quotient by the inverse": Change("values * inverse if INVERTED else tl.div_rn(values, by)", "values * inverse"),
    "no quotient by the inverse": Change("values * inverse if INVERTED else tl.div_rn", "tl.div_rn"),
    "the next input is not scaled": Change("there * into, live", "there, live"),
    "the first input is not scaled": Change("values * into, live", "values, live"),
    "noise is not scaled": Change("stream, seed, BLOCK) * scale", "stream, seed, BLOCK)"),
    "counters exchanged": Change("normal_block(block, step, episode,", "normal_block(block, episode, step,"),
    "rows and columns exchanged": Change("row * by_row + column * by_column", "row * by_column + column * by_row"),
}  # fmt: skip

NOISE = {
    "one round less": Change("tl.constexpr(reference.ROUNDS)", "tl.constexpr(reference.ROUNDS - 1)"),
    "multipliers exchanged": Change("tl.umulhi(c0, M0), tl.umulhi(c2, M1)", "tl.umulhi(c0, M1), tl.umulhi(c2, M0)"),
    "a word is not mixed in": Change("high1 ^ c1 ^ k0", "high1 ^ k0"),
    "half of the key stands still": Change("k0 + W0, k1 + W1", "k0 + W0, k1"),
    "words in another order": Change("tl.interleave(a, c), tl.interleave(b, d)",
                                     "tl.interleave(a, b), tl.interleave(c, d)"),
    "stream left out": Change("second.to(tl.uint32), stream.to(tl.uint32)", "second.to(tl.uint32), counter * 0"),
    "the first counter left out": Change("(counter, first.to(tl.uint32)", "(counter, counter * 0"),
    "the second counter left out": Change("second.to(tl.uint32), stream", "counter * 0, stream"),
    "counters exchanged": Change("first.to(tl.uint32), second.to(tl.uint32)",
                                 "second.to(tl.uint32), first.to(tl.uint32)"),
    "the key's upper word left out": Change("(seed >> 32).to(tl.uint32)", "counter * 0"),
    "blocks overlap": Change("block * (BLOCK // 4) + tl.arange", "block * (BLOCK // 8) + tl.arange"),
    "rows overlap": Change("picture * count + inner", "picture * (count // 2) + inner"),
    "numbers in another order": Change("tl.interleave(near * cos_near, far * cos_far)",
                                       "tl.interleave(far * cos_far, near * cos_near)"),
    "a cosine's sign": Change("((word + 0x40000000) >> 31) == 1", "(word >> 31) == 1"),
    "angles one place off": Change("(1 - 16777216)", "(-16777216)"),
    "the logarithm one place off": Change("((word >> 8) + 1)", "((word >> 8) | 1)"),
    "sums in another order": Change("x + tail + exponent * HIGH_LOG_2", "x + (tail + exponent * HIGH_LOG_2)"),
}  # fmt: skip


def attention_law(gpu: ModuleType, patch: pytest.MonkeyPatch) -> None:
    """Cut as small as can be, however that is tuned: keys in two steps, windows over both blocks, heads together."""
    real = gpu.plan

    def small(*given, **more):
        cut = real(*given, **more)
        return cut._replace(constants={**cut.constants, "BLOCK": 16, "STEP": 16})

    patch.setattr(gpu, "plan", small)
    for shape in ((1, 21, 1, 3, 0, 0), (1, 32, 1, 5, 4, 2), (1, 9, 4, 8, 3, 0)):
        attention_tests.test_the_kernels_agree_with_the_reference(gpu, shape, torch.float32)
    attention_tests.test_padding_stays_out_of_scores_far_below_zero(gpu)


def group_norm_law(gpu: ModuleType, patch: pytest.MonkeyPatch) -> None:
    norm_tests.check_group(gpu, (2, 6, 3, 5, 2), torch.float32, "picture", True)
    norm_tests.test_small_deviations_are_held_up_by_eps(gpu)
    _, x, gain, shift = norm_tests.rows_of((2, 6, 3, 5, 2), torch.float32, "picture")
    apart = norm_tests.framed(shift)[0]  # its pictures are half as far apart as those of gain
    torch.testing.assert_close(*(gpu.group(x, gain, each, 2, 1e-5, True)[0] for each in (apart, shift)), rtol=0, atol=0)
    norm_tests.test_a_large_mean_costs_no_more_than_its_own_rounding(gpu, patch)


def group_norm_read_twice_law(gpu: ModuleType, patch: pytest.MonkeyPatch) -> None:
    small_tiles(patch)
    norm_tests.check_group(gpu, (1, 3, 3, 5, 1), torch.float32, "picture", True)
    norm_tests.test_small_deviations_are_held_up_by_eps(gpu)


def layer_norm_law(gpu: ModuleType, patch: pytest.MonkeyPatch) -> None:
    with patch.context() as small:
        small_tiles(small)
        norm_tests.check_layer(gpu, (2, 5, 7), torch.float32)
    norm_tests.test_small_deviations_are_held_up_by_eps(gpu)
    norm_tests.test_a_large_mean_costs_no_more_than_its_own_rounding(gpu, patch)


def small_tiles(patch: pytest.MonkeyPatch) -> None:
    """As the fixture of the norms' tests."""
    for name, size in {"TILE": 32, "STEP": 32, "LAYER_TILE": 32, "CHUNK": 8}.items():
        patch.setattr(traffic, name, size)


def edm_step_law(gpu: ModuleType, patch: pytest.MonkeyPatch) -> None:
    """The op asked for by name, which finds the mutant in the place of its kernels."""
    patch.setattr(edm_step, "gpu", gpu)
    patch.setattr(edm_step.SWITCH, "asked", "auto")
    ask = edm_step.SWITCH.use
    edm_tests.test_a_step_is_the_references(ask, 1, True, True)
    edm_tests.test_a_start_is_the_noise_scaled(ask, "gpu", torch.float32, (2, 3, 1))
    edm_tests.test_a_half_becomes_the_even_byte(ask)
    edm_tests.test_a_kernel_writes_no_slot_that_is_not_there(ask)
    edm_tests.test_bytes_go_to_one_slot_and_nowhere_else(ask, "gpu", torch.tensor(2))
    edm_tests.test_on_a_gpu_a_quotient_is_the_product_with_the_inverse_as_torch_has_it(ask)


def noise_law(gpu: ModuleType, _: pytest.MonkeyPatch) -> None:
    where, stream = edm_tests.where(2), 2**32 - 2
    assert torch.equal(gpu.bits(*where, 5, stream), noise.bits(*where, 5, stream))
    out = torch.full((2, 530), torch.nan)
    gpu.normal(*where, stream, out)
    assert torch.equal(out, noise.normal(*where, 530, stream))


class Case(NamedTuple):
    """Kernels of an op, what holds for them, and the changes after which that must not hold."""

    op: str
    law: Callable[[ModuleType, pytest.MonkeyPatch], None]
    changes: dict[str, Change]


CASES = {
    "attention": Case("attention", attention_law, ATTENTION),
    "group_norm": Case("norm_act", group_norm_law, GROUP_NORM),
    "group_norm_read_twice": Case("norm_act", group_norm_read_twice_law, GROUP_NORM_READ_TWICE),
    "layer_norm": Case("norm_act", layer_norm_law, LAYER_NORM),
    "edm_step": Case("edm_step", edm_step_law, EDM_STEP),
    "noise": Case("noise", noise_law, NOISE),
}


def copied(op: str, folder: Path, change: Change) -> ModuleType:
    """The kernels of an op from a file of their own, after a change."""
    source = Path(importlib.import_module(f"w4rl_kernels.{op}.gpu").__file__).read_text()
    found = source.count(change.old)
    assert found == change.times, f"{op}/gpu.py has {change.old!r} {found} times, not {change.times}: renew the change"
    path = folder / f"mutant_of_{op}.py"
    path.write_text(source.replace(change.old, change.new))
    spec = importlib.util.spec_from_file_location(path.stem, path)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.mark.usefixtures("poisoned")
@pytest.mark.parametrize("name", CASES)
def test_an_unchanged_copy_keeps_the_law(name: str, tmp_path, monkeypatch) -> None:
    CASES[name].law(copied(CASES[name].op, tmp_path, Change("import triton\n", "import triton\n")), monkeypatch)


@pytest.mark.usefixtures("poisoned")
@pytest.mark.parametrize(("name", "mistake"), [(name, each) for name, case in CASES.items() for each in case.changes])
def test_a_mistake_breaks_the_law(name: str, mistake: str, tmp_path, monkeypatch) -> None:
    mutant = copied(CASES[name].op, tmp_path, CASES[name].changes[mistake])
    with pytest.raises(AssertionError):
        CASES[name].law(mutant, monkeypatch)
