"""A frame of contact is a blend where it lies between two outcomes, pixel by pixel, and nowhere else."""

import pytest
import torch

from w4rl_fast.truth.blend import TELLING, Contacts, is_other, measure_blend, mixed
from w4rl_fast.world.rollout import roll_out


def square(left, colour=(1.0, 1.0, 1.0)):
    """A frame with a square on grey, from the column `left` on."""
    frame = torch.full((1, 3, 16, 16), -0.5)
    frame[:, :, 4:10, left : left + 6] = torch.tensor(colour)[:, None, None]
    return frame


PRESSED, UNPRESSED, NOWHERE = square(1), square(9), torch.full((1, 3, 16, 16), -0.5)


def contact(real, other):
    telling = (real - other).abs().amax(1, keepdim=True) > 0.1
    return Contacts(torch.zeros(1), torch.zeros(1), real, other, telling)


@pytest.mark.parametrize(
    ("made", "share", "nearer"),
    [
        (PRESSED, 0.0, False),
        (UNPRESSED, 0.0, True),
        ((PRESSED + UNPRESSED) / 2, 1.0, False),
        (0.6 * PRESSED + 0.4 * UNPRESSED, 1.0, False),
        (0.9 * PRESSED + 0.1 * UNPRESSED, 0.0, False),
        (0.1 * PRESSED + 0.9 * UNPRESSED, 0.0, True),
        (NOWHERE, 0.0, False),  # neither of them, but sharp
        (square(5), 0.0, False),
        (square(1, (1.0, -1.0, -1.0)), 0.0, False),  # a colour that is on no way between the two
    ],
)
def test_only_a_mixture_of_both_outcomes_is_a_blend(made, share, nearer) -> None:
    given = contact(PRESSED, UNPRESSED)
    assert mixed(made, given).item() == pytest.approx(share)
    assert bool(is_other(made, given)) is nearer
    assert measure_blend(made, given).blended.successes == (share > 0)


def test_contacts_are_real_frames_with_a_real_frame_of_the_other_outcome(contacts, held) -> None:
    assert len(contacts.row) > 20
    (batch,) = held.batches()
    for row, step, real, other, telling in zip(*contacts, strict=True):
        assert torch.equal(real, batch.frames[row, 2 + step])
        is_lit = bool(batch.success[row, 2 + step])
        assert is_lit == bool(real[0, 0, 0] > 0)
        assert is_lit != bool(other[0, 0, 0] > 0)
        assert telling[0, :4, :4].all()  # the lamp
        assert telling.sum() >= TELLING
        assert is_lit or not held.infos[row].succeeded  # before it succeeds, an episode has not been decided


def blend_of(world, contacts, held):
    (batch,) = held.batches()
    return measure_blend(roll_out(world, batch).frames[contacts.row, contacts.step], contacts)


def test_a_world_that_averages_outcomes_blends_and_a_wrong_one_does_not(contacts, held, lamp_world) -> None:
    true = blend_of(lamp_world(), contacts, held)
    assert true.blended.successes == true.other.successes == 0
    half = blend_of(lamp_world(lamp=lambda lit: 0 * lit + 0.5), contacts, held)
    assert half.blended.successes == half.blended.episodes
    assert half.mixed_pixels > 0.5
    wrong = blend_of(lamp_world(lamp=lambda lit: 1 - lit), contacts, held)
    assert wrong.blended.successes == 0
    assert wrong.other.successes > 0.5 * wrong.other.episodes


def test_without_contacts_nothing_is_said() -> None:
    none = contact(PRESSED, UNPRESSED)
    assert measure_blend(PRESSED[:0], Contacts(*(part[:0] for part in none))) is None
