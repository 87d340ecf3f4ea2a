"""Counter-based noise: the published numbers, one definition everywhere, and nothing but the counter matters."""

import importlib.util
import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from w4rl_kernels import measured
from w4rl_kernels.noise import (
    IMPLEMENTATIONS,
    SWITCH,
    Draw,
    Problem,
    cpu,
    key,
    normal_noise,
    random_bits,
    reference,
    refuses,
)

# Random123, tests/kat_vectors: counter, key, result of philox4x32 with 10 rounds.
KNOWN = [
    ("00000000 00000000 00000000 00000000", "00000000 00000000", "6627e8d5 e169c58d bc57ac4c 9b00dbd8"),
    ("ffffffff ffffffff ffffffff ffffffff", "ffffffff ffffffff", "408f276d 41c83b0e a20bc7c6 6d5451fd"),
    ("243f6a88 85a308d3 13198a2e 03707344", "a4093822 299f31d0", "d16cfe09 94fdcceb 5001e420 24126ea1"),
]
WORDS = st.integers(0, 2**32 - 1)
HERE = [each for each in IMPLEMENTATIONS["cpu"] if each.unavailable() is None]


def words(text):
    return tuple(torch.tensor([int(word, 16)]) for word in text.split())


def counters(*numbers):
    return tuple(torch.tensor([number]) for number in numbers)


@pytest.mark.parametrize(("counter", "key", "expected"), KNOWN)
def test_the_published_vectors(counter, key, expected) -> None:
    assert reference.philox(words(counter), words(key)) == words(expected)


def test_counter_and_key_are_where_the_docstring_says() -> None:
    counter, key, _ = KNOWN[2]
    block, first, second, stream = (int(word) for word in words(counter))
    seed = int(words(key)[0]) + (int(words(key)[1]) << 32)
    where = counters(seed - 2**64 if seed >= 2**63 else seed, first, second)
    block %= 1024  # there are too many words before the published block
    expected = reference.philox((torch.tensor([block]), *words(counter)[1:]), words(key))
    assert torch.equal(random_bits(*where, 4 * block + 4, stream=stream)[0, -4:], torch.cat(expected))


def test_the_fast_way_meets_the_published_vectors() -> None:
    for counter, chosen, expected in KNOWN:
        given_words = [np.uint32(int(word, 16)) for word in f"{counter} {chosen}".split()]
        assert tuple(int(word) for word in cpu.philox(*given_words)) == tuple(int(w, 16) for w in expected.split())


@pytest.mark.parametrize("implementation", HERE, ids=lambda each: each.name)
@settings(deadline=None, max_examples=25)
@given(seed=st.integers(-(2**63), 2**63 - 1), first=WORDS, second=WORDS, stream=WORDS, count=st.integers(0, 133))
def test_every_way_gives_the_reference_bit_for_bit(implementation, seed, first, second, stream, count) -> None:
    where = counters(seed, first, second)
    pair = implementation.load()
    assert torch.equal(pair.bits(*where, count, stream), reference.bits(*where, count, stream))
    out = torch.full((1, count), torch.nan)
    pair.normal(*where, stream, out)
    assert torch.equal(out, reference.normal(*where, count, stream))


def test_two_million_numbers_are_equal_bit_for_bit() -> None:
    where = torch.arange(32), torch.arange(32) * 3, torch.arange(32) % 5
    assert torch.equal(normal_noise(*where, (65_536,)), reference.normal(*where, 65_536, 0))


def test_a_row_does_not_depend_on_the_others_nor_a_number_on_how_many_there_are() -> None:
    seeds, first, second = torch.arange(9) * 7 - 3, torch.arange(9) % 4, torch.arange(9) % 2
    whole = normal_noise(seeds, first, second, (3, 5, 7), stream=2)
    order = torch.randperm(9)
    assert torch.equal(normal_noise(seeds[order], first[order], second[order], (3, 5, 7), stream=2), whole[order])
    assert torch.equal(normal_noise(seeds[4:5], first[4:5], second[4:5], (41,), stream=2)[0], whole[4].flatten()[:41])


@pytest.mark.parametrize("changed", range(4))
def test_seed_counters_and_stream_all_matter(changed) -> None:
    numbers = [11, 12, 13, 14]
    other = list(numbers)
    other[changed] += 1
    *here, stream = numbers
    *there, other_stream = other
    one, two = (
        normal_noise(*counters(*here), (4096,), stream=stream),
        normal_noise(*counters(*there), (4096,), stream=other_stream),
    )
    assert not (one == two).any()
    assert abs((one * two).mean()) < 4 / math.sqrt(4096)


def test_the_numbers_are_normal() -> None:
    numbers = normal_noise(torch.arange(64), torch.zeros(64, dtype=torch.int64), torch.arange(64), (16_384,)).double()
    flat, n = numbers.flatten(), numbers.numel()
    assert abs(flat.mean()) < 4 / math.sqrt(n)
    assert abs(flat.square().mean() - 1) < 4 * math.sqrt(2 / n)
    assert abs(flat.pow(4).mean() - 3) < 4 * math.sqrt(96 / n)
    expected = torch.special.ndtr(flat.sort().values)
    assert (expected - (torch.arange(n) + 0.5) / n).abs().max() < 1.63 / math.sqrt(n)  # Kolmogorov-Smirnov, 1 %
    pairs = (numbers[:, 0::2] * numbers[:, 1::2]).mean()
    assert abs(pairs) < 4 / math.sqrt(n / 2)


def test_the_extreme_words_give_finite_numbers() -> None:
    assert reference.log_of(torch.tensor([2**24])) == 0
    ends = torch.tensor([0, 2**30 - 1, 2**30, 2**31 - 1, 2**31, 3 * 2**30, 2**32 - 1])
    cos, sin = reference.turn(ends)
    torch.testing.assert_close(cos**2 + sin**2, torch.ones(7))
    assert reference.log_of(torch.tensor([1])).item() == pytest.approx(-24 * math.log(2))


def test_logarithm_and_angle_are_what_they_say() -> None:
    number = torch.randint(1, 2**24 + 1, (10_000,), generator=torch.Generator().manual_seed(0))
    exact = (number.double() / 2**24).log()
    torch.testing.assert_close(reference.log_of(number).double(), exact, rtol=3e-7, atol=1e-9)
    word = torch.randint(0, 2**32, (10_000,), generator=torch.Generator().manual_seed(1))
    angle = ((word & (2**30 - 1)).double() / 2**30 - 0.5 + (word >> 30)) * (math.pi / 2)
    cos, sin = reference.turn(word)
    torch.testing.assert_close(cos.double(), angle.cos(), rtol=0, atol=2e-7)
    torch.testing.assert_close(sin.double(), angle.sin(), rtol=0, atol=2e-7)


def test_memory_that_is_given_is_filled_whole() -> None:
    where = counters(1, 2, 3)
    out = torch.full((1, 3, 5), torch.nan)
    assert normal_noise(*where, (3, 5), out=out) is out
    assert torch.equal(out, normal_noise(*where, (3, 5)))


def test_a_draw_is_the_noise_that_it_says() -> None:
    where = torch.arange(3), torch.arange(3) + 5, torch.arange(3) * 2
    assert torch.equal(Draw(*where, 7).normal((2, 5)), normal_noise(*where, (2, 5), stream=7))


@pytest.mark.skipif(len(HERE) < 3, reason="set TRITON_INTERPRET=1, with Triton")
def test_the_kernel_gives_the_same_noise_in_a_few_large_programs(monkeypatch) -> None:
    """A quarter of a million numbers: every quadrant, and nearly every exponent there is."""
    from w4rl_kernels.noise import gpu

    monkeypatch.setattr(gpu, "BLOCK", 2**14)
    where, out = (torch.arange(8), torch.arange(8) * 3, torch.arange(8) % 5), torch.full((8, 30_000), torch.nan)
    gpu.normal(*where, 2**32 - 1, out)
    assert torch.equal(out, reference.normal(*where, 30_000, 2**32 - 1))


@pytest.mark.skipif(importlib.util.find_spec("triton") is None, reason='pip install "w4rl-fast[triton]"')
def test_auto_takes_no_kernel_that_was_not_measured(monkeypatch) -> None:
    seen = []
    monkeypatch.setattr(measured, "unproven", lambda op, name: seen.append((op, name)))
    assert SWITCH.serve("cuda", Problem(2, 6912)) == "gpu"
    assert seen == [("noise", key(Problem(2, 6912)))] != [("noise", key(Problem(2, 4)))]
    monkeypatch.setattr(measured, "unproven", lambda *_: "not measured")
    assert SWITCH.serve("cuda", Problem(2, 6912)) == "reference"
    assert "up to 2147479552" in refuses(Problem(2, 2**31))


def test_the_fast_way_is_chosen() -> None:
    assert SWITCH.serve("cpu", Problem(64, 6912)) == "cpu"


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        ({"seeds": torch.zeros(2)}, "int64"),
        ({"first": torch.zeros(3, dtype=torch.int64)}, "int64"),
        ({"stream": -1}, "between 0"),
        ({"out": torch.zeros(2, 3)}, "filled"),
    ],
)
def test_bad_input(arguments, said) -> None:
    good = {name: torch.zeros(2, dtype=torch.int64) for name in ("seeds", "first", "second")}
    with pytest.raises(ValueError, match=said):
        normal_noise(**{**good, "shape": (4,), **arguments})
