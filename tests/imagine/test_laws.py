"""One transition belongs together: the reward, the action and what is seen of one and the same step.

The worlds here follow a rule that anyone can compute, so the law is stated without the engine. The classic mistakes are
written below as engines that make them; the law has to catch each.
"""

import pytest
import torch

from w4rl_fast.imagine import Imagination
from w4rl_fast.reward import Rule

COUNT, STEPS, HORIZON = 6, 24, 5


def require_law(imagination, known, actions, *, seed=11) -> dict[str, int]:
    """Replay the actions and check every transition; returns how often what happened."""
    starts, seeds = imagination.starts, torch.arange(imagination.num_worlds) + seed
    episodes = torch.zeros_like(seeds)
    clock, run = torch.zeros_like(seeds), torch.zeros_like(seeds)
    seen = imagination.reset(seed)
    happened = {"won": 0, "late": 0}
    for acted in actions:
        drawn = starts.draw(seeds, episodes)
        begins = clock == 0
        assert torch.equal(seen.proprio[begins], starts.proprio[drawn][begins, -1]), "an episode begins at its start"
        first = starts.pixels[starts.rows[drawn, -1]]
        assert torch.equal(seen.frames[begins], first[begins]), "an episode begins with its start's picture"
        expected = seen.proprio + acted / 4
        seen, outcome, final = imagination.step(acted)
        torch.testing.assert_close(final.proprio, expected, msg="the hand moves by the action that was given")
        assert torch.equal(final.frames, known.bytes_of(final.proprio)), "the picture is of that moment"
        clock += 1
        run = (run + 1) * known.succeeded(final.proprio)
        won = run >= imagination.rule.hits
        late = (clock >= imagination.config.horizon) & ~won
        assert torch.equal(outcome.reward, won.float()), "the reward is of what the action led to"
        assert torch.equal(outcome.terminated, won)
        assert torch.equal(outcome.truncated, late)
        done = won | late
        for shown, last in zip(seen, final, strict=True):
            assert torch.equal(shown[~done], last[~done]), "a world that goes on shows what it led to"
        episodes += done
        clock, run = torch.where(done, 0, clock), torch.where(done, 0, run)
        seen = type(seen)(*(each.clone() for each in seen))
        happened["won"] += int(won.sum())
        happened["late"] += int(late.sum())
    return happened


@pytest.mark.parametrize("hits", [1, 2])
def test_reward_action_and_observation_belong_together(imagine, known, actions, hits) -> None:
    imagination = imagine(COUNT, engine=known.step, horizon=HORIZON, rule=Rule(threshold=0.6, hits=hits))
    happened = require_law(imagination, known, actions(STEPS, COUNT))
    assert min(happened.values()) >= 3, "the law was tried on both ways to end"


class RewardOfTheStepBefore(Imagination):
    def _judge(self):
        now, self.logit = self.logit, getattr(self, "before", self.logit)
        try:
            return super()._judge()
        finally:
            self.before, self.logit = now.clone(), now


class ActionOfTheStepBefore(Imagination):
    def advance(self, actions):
        now, actions = actions, getattr(self, "before", torch.zeros_like(actions))
        self.before = now
        return super().advance(actions)


class ShowsTheOldEpisodeOnceMore(Imagination):
    def observe(self):
        return self.ended_with() if self.clock[: self.num_worlds].eq(0).any() and self.begun else super().observe()


class BeginsInTheOldPicture(Imagination):
    def restart(self, mask):
        kept = self.past.frames.clone()
        super().restart(mask)
        self.past.frames.copy_(kept)


class LandsInTheSlotBefore(Imagination):
    def landing(self, part):
        return super().landing(part)._replace(slot=self.past.newest)


class ForgetsWhoWasReset(Imagination):
    """The clock goes on where an episode ended."""

    def _begin(self, mask):
        before = self.clock.clone()
        super()._begin(mask)
        self.clock.copy_(before)


class LastObservationIsTheNewOne(Imagination):
    def ended_with(self):
        return self.observe()


MUTANTS = [
    RewardOfTheStepBefore,
    ActionOfTheStepBefore,
    ShowsTheOldEpisodeOnceMore,
    BeginsInTheOldPicture,
    LandsInTheSlotBefore,
    ForgetsWhoWasReset,
    LastObservationIsTheNewOne,
]


@pytest.mark.parametrize("mutant", MUTANTS)
def test_the_law_catches(imagine, known, actions, mutant) -> None:
    with pytest.raises(AssertionError):
        require_law(imagine(COUNT, engine=known.step, horizon=HORIZON, kind=mutant), known, actions(STEPS, COUNT))


def test_the_world_is_shown_what_happened_and_in_that_order(imagine, known, actions) -> None:
    """The history that a step is given ends with what was seen last, and its actions with the one taken now."""
    given = []

    def spy(*inputs):
        given.append([each.clone() for each in inputs])
        return known.step(*inputs)

    imagination = imagine(4, engine=spy, horizon=50, rule=Rule(threshold=0.999999, hits=50))
    seen, acted = [imagination.reset(3).proprio.clone()], actions(8, 4)
    begun = imagination.starts.draw(torch.arange(4) + 3, torch.zeros(4, dtype=torch.int64))
    seen += [imagination.step(each)[0].proprio.clone() for each in acted]
    starts, history = imagination.starts, 3
    places = torch.cat([starts.proprio[begun][:, :-1], torch.stack(seen, 1)], 1)
    past = torch.cat([starts.actions[begun][:, :-1], acted.movedim(0, 1)], 1)
    for step, (frames, proprio, done, anchor, *_) in enumerate(given):
        assert torch.equal(proprio, places[:, step : step + history])
        assert torch.equal(done, past[:, step : step + history])
        assert torch.equal(anchor, starts.pixels[starts.anchors[begun]].float() / 127.5 - 1)
        newest = ((frames[:, -1] + 1) * 127.5).round().to(torch.uint8)
        if step:
            assert torch.equal(newest, known.bytes_of(seen[step]))


def test_actions_beyond_the_range_count_as_its_end(imagine, known) -> None:
    far, end = imagine(engine=known.step), imagine(engine=known.step)
    far.reset(0)
    end.reset(0)
    assert torch.equal(far.step(torch.full((6, 2), 9.0))[2].proprio, end.step(torch.ones(6, 2))[2].proprio)


def test_success_is_paid_once_and_latched_where_nothing_begins_anew(imagine, known) -> None:
    imagination = imagine(engine=known.step, horizon=12, autoreset=False, rule=Rule(threshold=0.6, hits=2))
    imagination.reset(0)
    right, left = torch.tensor([[1.0, 0]]).expand(6, 2), torch.tensor([[-1.0, 0]]).expand(6, 2)
    outcomes = [imagination.step(right if step < 6 else left)[1] for step in range(14)]
    rewards, won, late = (torch.stack([each[field] for each in outcomes]) for field in range(3))
    assert torch.equal(rewards.sum(0), torch.ones(6))
    assert torch.equal(won.int().diff(dim=0).clamp_min(0).sum(0), rewards.sum(0).int())
    assert (won.int().diff(dim=0) >= 0).all(), "what was won stays won"
    assert not late.any(), "a world that has won is not late"


def test_who_is_late_wins_no_more(imagine, known) -> None:
    imagination = imagine(engine=known.step, horizon=3, autoreset=False)
    imagination.reset(0)
    still, right = torch.zeros(6, 2), torch.tensor([[1.0, 0]]).expand(6, 2)
    outcomes = [imagination.step(still if step < 3 else right)[1] for step in range(9)]
    assert [bool(each.truncated.all()) for each in outcomes] == [False] * 2 + [True] * 7
    assert not torch.stack([each.reward for each in outcomes]).any()


def test_hits_have_to_follow_each_other(imagine, known) -> None:
    imagination = imagine(1, engine=known.step, horizon=30, rule=Rule(threshold=0.6, hits=2), autoreset=False)
    missing = (0.92 - float(imagination.reset(0).proprio[0, 0])) * 4
    there, back = [1.0] * int(missing) + [missing % 1], -0.2
    moves = [*there, back, -back, back, -back, 0.0]
    rewards = [float(imagination.step(torch.tensor([[move, 0.0]]))[1].reward) for move in moves]
    assert rewards == [0.0] * (len(moves) - 1) + [1.0]
