"""The gate lets a true student pass, and none that obeys less, is fooled more, or has forgotten chance."""

import copy
import dataclasses

import pytest
import torch

from w4rl_fast.distill.compare import gain
from w4rl_fast.truth.gate import GateConfig, complaints


def truths(exam, teacher, *students):
    """What an exam set by the teacher finds of it and of each student."""
    asked = exam(teacher)
    return [asked.take(each).truth for each in (teacher, *students)]


def test_a_student_that_is_its_teacher_passes_and_films_are_whole(exam, lamp_world) -> None:
    asked = exam(lamp_world())
    answer = asked.take(lamp_world())
    truth = answer.truth
    assert truth.failure.agreement == 1
    assert truth.response == pytest.approx(1)
    assert truth.spread == 0
    assert truth.blend.blended.successes == 0
    assert truth.fidelity.psnr_moving[-1] > 40
    assert len(answer.last) == len(asked.held)
    assert [film.shape for film in answer.films] == [(8, 3, 16, 16)] * 2
    assert complaints(truth, truth, GateConfig()) == ()


@pytest.mark.parametrize(
    ("broken", "words"),
    [
        ({"gain": 0.0}, "action response"),
        ({"frozen": True}, "action response"),
        ({"lamp": torch.ones_like}, "of the failures succeed"),
        ({"lamp": torch.zeros_like}, "of the outcomes agree"),
    ],
)
def test_a_broken_student_is_not_fit_and_it_is_said_why(exam, lamp_world, broken, words) -> None:
    teacher, student = truths(exam, lamp_world(), lamp_world(**broken))
    assert any(words in each for each in complaints(student, teacher, GateConfig()))


def test_a_network_whose_conditioning_was_zeroed_is_not_fit(exam, teacher) -> None:
    deaf = copy.deepcopy(teacher)
    with torch.no_grad():
        for weight in (deaf.actions, *deaf.where.parameters(), *deaf.maps.parameters()):
            weight.zero_()
    true, lost = truths(exam, teacher, deaf)
    assert true.response > 0.3  # random weights, but they listen
    assert "action response 0.000" in complaints(lost, true, GateConfig())[0]


def test_a_student_that_ignores_noise_is_not_fit_where_chance_matters(exam, lamp_world) -> None:
    teacher, same, deaf = truths(exam, lamp_world(flicker=0.6), lamp_world(flicker=0.6), lamp_world())
    assert teacher.spread > GateConfig().stochastic
    assert complaints(same, teacher, GateConfig()) == ()
    lenient = GateConfig(most_response_lost=1.0)  # the flicker makes a response that follows the law less alike
    assert [each for each in complaints(deaf, teacher, lenient) if "draws of noise" in each]
    assert not [each for each in complaints(deaf, deaf, lenient) if "draws of noise" in each]


def test_margins_are_what_the_gate_says(exam, lamp_world) -> None:
    (truth,) = truths(exam, lamp_world())
    for lost, passes in ((0.019, True), (0.021, False)):
        assert (complaints(dataclasses.replace(truth, response=1 - lost), truth, GateConfig()) == ()) is passes
    worse = dataclasses.replace(truth, failure=dataclasses.replace(truth.failure, agreement=0.96))
    assert complaints(worse, truth, GateConfig(most_agreement_lost=0.05)) == ()
    assert len(complaints(worse, truth, GateConfig())) == 1


def test_a_gain_is_paired_and_leaves_out_what_did_not_move() -> None:
    mine, theirs = torch.tensor([3.0, 5.0, torch.nan, 8.0]), torch.tensor([2.0, 3.0, 1.0, 5.0])
    found = gain(mine, theirs)
    assert found.episodes == 3
    assert found.mean == pytest.approx(2)
    assert found.high - found.mean == pytest.approx(found.mean - found.low) == pytest.approx(1.959964 / 3**0.5)
    assert gain(mine[:1], theirs[:1]) is None
