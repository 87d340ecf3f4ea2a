"""PPO in imagined worlds: it reaches a success that is known, and nothing but the policy moves."""

import hashlib

import pytest
import torch

from w4rl_fast.imagine import Rollouts
from w4rl_fast.imagine.guards import GuardConfig, Guards
from w4rl_fast.refine import PPO, PPOConfig, refine

CONFIG = PPOConfig(
    worlds=8, steps=6, iterations=3, epochs=2, minibatches=2, learning_rate=3e-3, value_warm_up=0, std=0.5, anchor=0.0
)


def weights(module) -> str:
    tensors = module.state_dict().values()
    return hashlib.sha256(b"".join(each.detach().numpy().tobytes() for each in tensors)).hexdigest()


def success(policy, worlds) -> float:
    """Share of the worlds in which the means of the policy succeed within an episode."""
    worlds.reset(10**6)
    won = torch.zeros(worlds.num_worlds, dtype=torch.bool)
    for _ in range(worlds.config.horizon):
        seen = worlds.observe()
        with torch.no_grad():
            mean, _ = policy(seen.frames[:, None].float() / 127.5 - 1, seen.proprio[:, None])
        won |= worlds.step(mean)[1].terminated
    return float(won.float().mean())


@pytest.mark.slow
def test_it_reaches_a_success_that_is_known(imagine, known, policy, tmp_path) -> None:
    """The classifier is replaced by a rule anyone can compute: whoever always goes to the right gets there in time."""
    judge = imagine(32, engine=known.step, autoreset=False)
    assert success(lambda frames, _: (torch.tensor([[1.0, 0.0]]).expand(len(frames), 2), None), judge) == 1
    assert success(policy, judge) < 0.5
    config = PPOConfig(
        worlds=48, steps=10, iterations=30, epochs=3, minibatches=4, learning_rate=3e-3, anchor=0.0, std=0.5,
        target_kl=0.1,
    )  # fmt: skip
    found = refine(PPO(policy, Rollouts(imagine(48, engine=known.step)), config, tmp_path))
    assert success(found.policy, judge) > 0.95


def test_world_and_classifier_stay_frozen(imagine, policy, tmp_path) -> None:
    worlds = imagine(CONFIG.worlds)
    before = weights(worlds.module)
    ppo = PPO(policy, Rollouts(worlds), CONFIG, tmp_path)
    for _ in range(CONFIG.iterations):
        ppo.iterate()
    assert weights(ppo.policy) != weights(policy)
    assert weights(worlds.module) == before
    assert all(each.grad is None and not each.requires_grad for each in worlds.module.parameters())
    assert all(each.grad is not None for each in ppo.value.parameters())


def test_learning_rates_of_zero_change_nothing(imagine, policy, tmp_path) -> None:
    config = PPOConfig(worlds=8, steps=6, iterations=2, learning_rate=0.0, value_learning_rate=0.0, value_warm_up=0)
    ppo = PPO(policy, Rollouts(imagine(8)), config, tmp_path)
    before = weights(ppo.policy), weights(ppo.value)
    for _ in range(2):
        ppo.iterate()
    assert (weights(ppo.policy), weights(ppo.value)) == before


@pytest.mark.slow
def test_guards_that_draw_again_change_nothing(imagine, policy, tmp_path, windows) -> None:
    """With guards, without, and taken up in the middle with them: the same policy."""
    limits = GuardConfig(rise=1.0)

    def refined(folder, guarded, stop=None):
        worlds = imagine(CONFIG.worlds)
        guards = Guards(windows, limits, worlds) if guarded else None

        ppo = PPO(policy, Rollouts(worlds), CONFIG, tmp_path / folder)

        def guard(iteration):
            if iteration == stop:
                raise KeyboardInterrupt
            return guards(iteration, ppo.rollout) if guards else {}

        return refine(ppo, guard=guard)

    with pytest.raises(KeyboardInterrupt):
        refined("pieces", guarded=True, stop=2)
    refined("pieces", guarded=True)
    refined("guarded", guarded=True)
    refined("alone", guarded=False)
    found = [(tmp_path / name / "last" / "policy.safetensors").read_bytes() for name in ("pieces", "guarded", "alone")]
    assert found[0] == found[1] == found[2]
    logged = [(tmp_path / name / "metrics.jsonl").read_text() for name in ("pieces", "guarded")]
    assert logged[0] == logged[1]
    assert "guard_undecided" in logged[0]


@pytest.fixture
def windows(store):
    from w4rl_fast.data.windows import WindowConfig, Windows

    return Windows(store, WindowConfig(history=2, future=0, pixels=False), "train")
