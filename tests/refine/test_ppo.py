"""PPO obeys its laws in worlds whose best policy is known."""

import dataclasses
import math
from inspect import signature
from types import SimpleNamespace

import pytest
import torch

from w4rl_fast.errors import UserError
from w4rl_fast.policy.gaussian import log_probability
from w4rl_fast.refine import PPO, PPOConfig
from w4rl_fast.refine.checkpoint import CHECKPOINT, digest
from w4rl_fast.refine.objective import sampled_divergence
from w4rl_fast.refine.ppo import outcome
from w4rl_fast.refine.returns import gae
from w4rl_fast.refine.samples import pictures


def weights(module) -> dict[str, torch.Tensor]:
    return {name: each.clone() for name, each in module.state_dict().items()}


def same(one: dict, two: dict) -> bool:
    return one.keys() == two.keys() and all(torch.equal(each, two[name]) for name, each in one.items())


def first_divergences(ppo) -> list[float]:
    """A list that fills with what each moving iteration finds before its first update."""
    found, learn, loss_of = [], ppo._learn, ppo._policy_loss

    def learn_noted(samples):
        calls = []

        def noted(*arguments):
            out = loss_of(*arguments)
            if not calls:
                found.append(out[1]["kl"])
            calls.append(1)
            return out

        ppo._policy_loss = noted
        return learn(samples)

    ppo._learn = learn_noted
    return found


@torch.no_grad()
def divergence_of_all(ppo) -> float:
    """How far the policy is now from the one that acted, over a whole rollout."""
    seen = ppo.rollout
    mean, std = ppo.policy(pictures(seen.frames.flatten(0, 1)), seen.proprio.flatten(0, 1))
    log_probs = log_probability(mean, std, seen.actions.flatten(0, 1))
    return sampled_divergence(log_probs - seen.log_probs.flatten()).item()


@pytest.fixture
def start(clone, line, config, tmp_path):
    """A refinement of the clone on the line with a few other settings."""

    def start(folder="run", policy=clone, rollouts=line, origin="", **settings):
        changed = dataclasses.replace(config, **settings)
        return PPO(policy, rollouts, changed, tmp_path / folder, origin=origin)

    return start


@pytest.mark.parametrize(("seed", "history"), [(0, 1), (1, 1), (2, 2)])
def test_it_reaches_the_known_optimum(start, line, make_policy, seed, history) -> None:
    """Who walks to the lit side gets there every time, in two steps or less: five times in ten."""
    policy = make_policy(history, seed)
    ppo = start(policy=policy, iterations=32, epochs=3, minibatches=4, anchor=0.0, target_kl=0.05, seed=seed)
    assert line.success(policy) < 0.6
    figures = [ppo.iterate() for _ in range(32)][-1]
    assert line.success(ppo.policy) == 1
    assert figures["success"] > 0.95
    assert figures["return"] > 4


def test_a_learnt_deviation_shrinks_within_its_bounds(start, make_policy) -> None:
    policy = make_policy(std_low=0.2, std_high=0.4)
    ppo = start(policy=policy, iterations=16, epochs=3, learning_rate=1e-2, anchor=0, target_kl=1, learn_std=True)
    stds = [ppo.iterate()["std"] for _ in range(16)]
    assert len(set(stds)) > 3
    assert 0.2 - 1e-6 <= min(stds) <= max(stds) <= 0.4 + 1e-6
    wide = start("wide", policy=policy, learning_rate=5e-2, entropy_coefficient=100.0, learn_std=True, target_kl=9)
    assert [wide.iterate()["std"] for _ in range(6)][-1] == pytest.approx(0.4)


def test_a_fixed_deviation_is_the_configs(start) -> None:
    ppo = start(std=0.25)
    assert [ppo.iterate()["std"] for _ in range(3)] == pytest.approx([0.25] * 3)


def test_a_learning_rate_of_zero_changes_nothing(start, line, clone) -> None:
    ppo = start(learning_rate=0.0, value_learning_rate=0.0)
    before, value, success = weights(ppo.policy), weights(ppo.value), line.success(clone)
    for _ in range(3):
        ppo.iterate()
    assert same(weights(ppo.policy), before)
    assert same(weights(ppo.value), value)
    assert line.success(ppo.policy) == success


def test_only_the_value_network_learns_at_first(start) -> None:
    ppo = start(value_warm_up=2)
    for number in range(3):
        policy, value = weights(ppo.policy), weights(ppo.value)
        updates = ppo.iterate()["updates"]
        assert same(weights(ppo.policy), policy) == (number < 2)
        assert (updates == 0) == (number < 2)
        assert not same(weights(ppo.value), value)


@pytest.mark.parametrize("history", [1, 2])
def test_the_policy_that_acted_is_the_one_that_begins_to_learn(start, make_policy, history) -> None:
    """In the first pass of an iteration all ratios are 1: what the policy saw is rebuilt from what was stored."""
    ppo = start(policy=make_policy(history), epochs=1, minibatches=1, target_kl=9)
    first = first_divergences(ppo)
    for _ in range(4):
        figures = ppo.iterate()
        assert figures["clip_fraction"] == 0
    assert figures["updates"] == 1
    assert first == pytest.approx([0] * 3, abs=1e-9)
    assert figures["kl"] > 1e-6
    assert figures["kl"] == pytest.approx(divergence_of_all(ppo), rel=1e-4)


def test_in_bfloat16_rounding_is_little_beside_what_is_learnt(start) -> None:
    """The ratios of the first pass are nearly 1, and both precisions lead to nearly the same policy."""
    settings = {"epochs": 1, "minibatches": 1, "target_kl": 9}
    wide, narrow = (start(each, precision=each, **settings) for each in ("float32", "bfloat16"))
    first, clone = first_divergences(narrow), weights(narrow.clone)
    for _ in range(2):
        one, other = wide.iterate(), narrow.iterate()
    assert 0 < first[0] < 1e-3
    assert other["clip_fraction"] == 0
    for name in ("kl", "policy_gradient", "value_gradient", "value_loss"):
        assert other[name] == pytest.approx(one[name], rel=0.1)
    assert all(each.dtype == torch.float32 for each in weights(narrow.policy).values())
    assert same(weights(narrow.clone), clone)


def test_it_comes_back_from_a_step_too_far(start) -> None:
    """Towards the policy that acted, along the way it came, to about the divergence that is wanted."""
    settings = {"epochs": 1, "minibatches": 1, "value_warm_up": 0, "learning_rate": 3e-2}
    free, kept = start("free", **settings, target_kl=1e3), start("kept", **settings)
    before = weights(free.policy)
    assert free.iterate()["kl"] > 5 * kept.config.target_kl
    figures = kept.iterate()
    assert figures["kl"] == pytest.approx(kept.config.target_kl, rel=0.5)
    assert figures["kl"] == pytest.approx(divergence_of_all(kept), rel=1e-3)
    far, near = weights(free.policy), weights(kept.policy)
    way, share = (torch.cat([(each[name] - before[name]).flatten() for name in before]) for each in (far, near))
    torch.testing.assert_close(share, way * (share.norm() / way.norm()), rtol=1e-3, atol=1e-6)
    assert share.norm() < 0.5 * way.norm()


def test_it_stops_moving_once_it_is_far_from_the_policy_that_acted(start) -> None:
    settings = {"epochs": 5, "minibatches": 2, "value_warm_up": 0}
    assert start("strict", **settings, target_kl=1e-6).iterate()["updates"] == 1
    assert start("free", **settings, target_kl=100.0).iterate()["updates"] == 10


def test_a_heavier_anchor_keeps_it_nearer_to_the_clone(start) -> None:
    distances = []
    for anchor in (0.0, 1.0, 30.0):
        ppo = start(str(anchor), anchor=anchor, target_kl=10.0)
        distances.append([ppo.iterate()["anchor_kl"] for _ in range(6)][-1])
    assert distances[0] > 1.5 * distances[1] > 3 * distances[2] > 0


def test_the_clone_never_changes(start, clone) -> None:
    given = weights(clone)
    ppo = start()
    frozen = weights(ppo.clone)
    for _ in range(3):
        ppo.iterate()
    assert same(weights(clone), given)
    assert same(weights(ppo.clone), frozen)
    assert not any(each.requires_grad for each in ppo.clone.parameters())
    assert not same(weights(ppo.policy), frozen)
    assert math.exp(frozen["log_std"].item()) == pytest.approx(0.3)


def test_the_floor_keeps_a_saturated_reward_from_teaching_noise(start, line) -> None:
    """Where all advantages are tiny, a higher floor moves the policy less."""

    class Settled(type(line)):
        def rollout(self, *arguments):
            rollout = super().rollout(*arguments)
            calm = torch.zeros_like(rollout.rewards)
            noise = 1e-3 * torch.randn(calm.shape, generator=torch.Generator().manual_seed(0))
            return rollout._replace(
                rewards=noise, values=calm, final_values=calm, last_values=calm[0], terminated=calm.bool()
            )

    figures = []
    for floor in (1e-9, 0.1):
        ppo = start(str(floor), rollouts=Settled(32), advantage_floor=floor, value_warm_up=0, epochs=1, minibatches=1)
        figures.append(ppo.iterate())
    assert figures[0]["advantage_std"] == figures[1]["advantage_std"] < 0.01
    assert figures[1]["policy_gradient"] < 0.05 * figures[0]["policy_gradient"]


def test_advantages_are_those_of_the_config(start) -> None:
    for gamma, lam in [(0.5, 0.9), (0.9, 0.5), (1.0, 0.0)]:
        ppo = start(f"{gamma}", gamma=gamma, lam=lam)
        ppo.iterate()  # values are zero until they have learnt
        figures, seen = ppo.iterate(), ppo.rollout._asdict()
        named = {name: seen[name] for name in signature(gae).parameters if name in seen}
        expected = gae(**named, gamma=gamma, lam=lam).std(correction=0).item()
        assert figures["advantage_std"] == pytest.approx(expected)


def test_success_is_that_of_the_first_episode_of_each_world() -> None:
    """Won and won again; lost and then won; still going on: one of three."""
    terminated = torch.tensor([[1, 0, 0], [0, 0, 0], [1, 1, 0]], dtype=torch.bool)
    truncated = torch.tensor([[0, 1, 0], [0, 0, 0], [0, 0, 0]], dtype=torch.bool)
    rollout = SimpleNamespace(terminated=terminated, truncated=truncated, rewards=terminated.float())
    assert outcome(rollout) == {"success": pytest.approx(1 / 3), "return": 1.0}


def test_learning_rates_fall_linearly(start) -> None:
    ppo = start(iterations=5, final_rate=0.5)
    assert [ppo.iterate()["rate"] for _ in range(5)] == pytest.approx([1, 0.9, 0.8, 0.7, 0.6])


def test_no_two_iterations_share_the_noise_of_a_world(start, line, config) -> None:
    seeds = []

    class Noted(type(line)):
        def rollout(self, policy, value, steps, seed):
            seeds.extend(range(seed, seed + self.worlds))
            return super().rollout(policy, value, steps, seed)

    ppo = start(rollouts=Noted(config.worlds))
    for _ in range(3):
        ppo.iterate()
    assert len(set(seeds)) == 3 * config.worlds


@pytest.mark.parametrize("stops", [(1,), (3,), (1, 2, 5)])
def test_in_pieces_it_equals_an_uninterrupted_one_bit_for_bit(start, stops) -> None:
    whole = start("whole")
    figures = [whole.iterate() for _ in range(6)]
    for stop in (*stops, 6):
        ppo = start("pieces")
        while ppo.iteration < stop:
            assert ppo.iterate() == figures[ppo.iteration - 1]
        ppo.save()
    assert same(weights(ppo.policy), weights(whole.policy))
    assert same(weights(ppo.value), weights(whole.value))


def test_a_kill_between_checkpoints_costs_their_iterations_only(start) -> None:
    ppo = start()
    for _ in range(2):
        ppo.iterate()
    ppo.save()
    lost = [ppo.iterate() for _ in range(3)]
    again = start()
    assert again.iteration == 2
    assert [again.iterate() for _ in range(3)] == lost


def test_what_it_draws_does_not_depend_on_what_others_drew(start) -> None:
    torch.manual_seed(1)
    one = start("one")
    torch.manual_seed(2)
    two = start("two")
    for _ in range(2):
        assert one.iterate() == two.iterate()
        torch.randn(3)
    assert start("other", seed=1).iterate() != start("again").iterate()


def test_a_checkpoint_of_something_else_is_refused(start, make_policy) -> None:
    start(origin="world 1").save()
    assert start(origin="world 1").iteration == 0
    for changed, name in [
        ({"clip": 0.3}, "config"), ({"policy": make_policy(seed=5)}, "clone"), ({"origin": "world 2"}, "origin"),
    ]:  # fmt: skip
        with pytest.raises(UserError, match=f"another .*{name}"):
            start(**{"origin": "world 1", **changed})


def test_a_damaged_checkpoint_is_named(start, tmp_path) -> None:
    start().save()
    (tmp_path / "run" / CHECKPOINT).write_bytes(b"nothing")
    with pytest.raises(UserError, match=f"{CHECKPOINT}.*cannot be read"):
        start()


def test_a_full_disk_keeps_the_checkpoint_before(start, tmp_path, failing_disk) -> None:
    ppo = start()
    ppo.iterate()
    ppo.save()
    kept = (tmp_path / "run" / CHECKPOINT).read_bytes()
    ppo.iterate()
    failing_disk(1)
    with pytest.raises(UserError, match="cannot write"):
        ppo.save()
    failing_disk(0)
    assert (tmp_path / "run" / CHECKPOINT).read_bytes() == kept
    assert start().iteration == 1


@pytest.mark.parametrize("name", ["rewards", "values", "log_probs", "actions", "proprio", "last_values"])
def test_what_is_not_finite_stops_it_and_is_named(start, line, tmp_path, name) -> None:
    class Broken(type(line)):
        def rollout(self, *arguments):
            rollout = super().rollout(*arguments)
            if self.calls == 3:
                getattr(rollout, name).view(-1)[5] = torch.nan
            return rollout

    ppo = start(rollouts=Broken(line.worlds))
    for _ in range(2):
        ppo.iterate()
    ppo.save()
    before, kept = weights(ppo.policy), (tmp_path / "run" / CHECKPOINT).read_bytes()
    with pytest.raises(UserError, match=f"{name} is not finite in iteration 2"):
        ppo.iterate()
    assert same(weights(ppo.policy), before)
    assert (tmp_path / "run" / CHECKPOINT).read_bytes() == kept


def test_a_network_that_breaks_is_named(start) -> None:
    ppo = start(value_warm_up=0)
    ppo.value.head[-1].register_full_backward_pre_hook(lambda _module, gradient: (gradient[0] * torch.inf,))
    with pytest.raises(UserError, match="value_gradient is not finite in iteration 0"):
        ppo.iterate()
    with pytest.raises(UserError, match="score is not finite"):
        ppo.keep_best(math.nan)


def test_a_dream_is_worth_less_the_further_the_policy_is_from_its_clone(start) -> None:
    ppo = start(caution=0.1, value_warm_up=0)
    assert ppo.keep_best(0.5)
    for _ in range(3):
        figures = ppo.iterate()
    assert ppo.away == pytest.approx(figures["anchor_kl"])
    assert ppo.away > 0
    ppo.away = 2.0
    assert not ppo.keep_best(0.69)
    assert ppo.best_iteration == 0
    ppo.save()
    again = start(caution=0.1, value_warm_up=0)
    assert not again.keep_best(0.69)
    assert again.keep_best(0.71)
    assert again.best_score == 0.71
    assert not again.keep_best(0.71)


def test_another_number_of_worlds_is_refused(start, make_line) -> None:
    with pytest.raises(UserError, match=r"\(10, 7\).*worlds=32"):
        start(rollouts=make_line(7)).iterate()


def test_a_deviation_outside_the_bounds_of_the_policy_is_refused(start, make_policy) -> None:
    with pytest.raises(UserError, match=r"std=0.3.*between 0.4 and 0.9"):
        start(policy=make_policy(std_low=0.4, std_high=0.9))


@pytest.mark.parametrize(
    "settings",
    [{"worlds": 0}, {"gamma": 1.1}, {"clip": 0.0}, {"anchor": -1.0}, {"minibatches": 100, "worlds": 4, "steps": 4}],
)
def test_settings_outside_their_range_are_refused(settings) -> None:
    with pytest.raises(ValueError, match="|".join(settings)):
        PPOConfig(**settings)


def test_the_digest_tells_weights_apart(make_policy) -> None:
    assert digest(make_policy(seed=1)) == digest(make_policy(seed=1)) != digest(make_policy(seed=2))
