"""First-order refinement: what learns and what never does, exact resume, a refresh from whole lives, and refusals."""

import copy
import dataclasses
import math

import pytest
import torch

from tests.imagine.conftest import WORLD
from tests.surrogate.toy import (
    Written,
    acting,
    knowing,
    same,
    surrogate_of,
    weights,
    write_store,
)
from tests.weights import awake
from w4rl_fast.data.windows import WindowConfig, Windows
from w4rl_fast.errors import UserError
from w4rl_fast.imagine import Imagination, ImaginationConfig, Starts
from w4rl_fast.policy import load_policy
from w4rl_fast.refine import ValueNetwork, first_order, refine
from w4rl_fast.refine.checkpoint import CHECKPOINT, digest
from w4rl_fast.refine.config import FoGConfig
from w4rl_fast.refine.first_order import FirstOrder, Memory, follow
from w4rl_fast.refine.objective import divergence
from w4rl_fast.refine.segment import Place, Segment, live, worth
from w4rl_fast.reward import RewardConfig, RewardModel, Rule
from w4rl_fast.surrogate.model import Surrogate
from w4rl_fast.surrogate.tracks import RealTracks
from w4rl_fast.world.model import WorldModel

pytestmark = pytest.mark.filterwarnings("ignore:Initializing zero-element")

CONFIG = FoGConfig(
    worlds=6, steps=6, horizon=3, iterations=6, minibatches=2, critic_windows=3, refreshes=2, refresh_imagined=8,
    refresh_real=4, ring=10, score_every=2, target_kl=1e9, passes=1, rehearsals=1, rehearsed=5,
    ahead=2, trust=-1.0,
)  # fmt: skip
ROLLS = ("decoupled", "coupled", "surrogate")


def flow(state, action):
    return 0.9 * state + 0.3 * torch.tanh(action + state.flip(1))


def near(state):
    return -(state - 0.5).square().sum(-1)


def worlds_of(count=6, *, history=2, **settings):
    """Noisy worlds that begin anywhere, are won above 0.9 and late after 5 steps."""
    begin = torch.rand(50, 2, generator=torch.Generator().manual_seed(4)) * 1.6 - 0.8
    made = {"won": 0.9, "horizon": 5, "noise": 0.05, "drawn": True, **settings}
    return Written(flow, begin, count=count, history=history, **made)


@pytest.fixture(scope="module")
def surrogate():
    return surrogate_of(history=2)


@pytest.fixture(scope="module")
def clone(surrogate):
    return acting(surrogate)[0]


@pytest.fixture(scope="module")
def store(tmp_path_factory):
    return write_store(tmp_path_factory.mktemp("first") / "store", count=12)


@pytest.fixture(scope="module")
def tracks(surrogate, store):
    return RealTracks(surrogate, Windows(store, WindowConfig(history=2, future=0, held_out=0.0), "train"))


@pytest.fixture
def start(surrogate, clone, tracks, tmp_path):
    """A refinement with a few other settings, in a folder of its own."""

    def start(folder="run", **settings):
        parts = {"clone": clone, "surrogate": surrogate, "tracks": tracks, "origin": ""}
        given = {name: settings.pop(name, part) for name, part in parts.items()}
        given["worlds"] = settings.pop("world", None) or worlds_of()
        return FirstOrder(config=dataclasses.replace(CONFIG, **settings), folder=tmp_path / folder, **given)

    return start


def everything(one):
    """All that learns or remembers, by name."""
    return {f"{part}/{name}": each.clone() for part, kept in one.kept.items() for name, each in kept.state()}


def test_it_earns_more(start) -> None:
    one = knows(start, iterations=30, learning_rate=1e-2, world=worlds_of(won=math.inf, history=1), refreshes=0)
    figures = [one.iterate() for _ in range(30)]
    first, last = (sum(each["reward"] for each in part) / 5 for part in (figures[:5], figures[-5:]))
    assert last > 0.6 * first
    assert figures[-1]["return"] == pytest.approx(6 * figures[-1]["reward"])


def knows(start, **settings):
    """A refinement whose latents are states, so that what it remembers can be checked against the formula."""
    surrogate = knowing(flow, near)
    settings = {"refresh_real": 0, "tracks": None, **settings}
    return start(surrogate=surrogate, clone=acting(surrogate)[0], **settings)


def dream():
    """Imagined worlds of a tiny world model and classifier, from starts of noise."""
    torch.manual_seed(0)
    world, reward = awake(WorldModel(WORLD)), awake(RewardModel(RewardConfig(image_size=16, widths=(8,), hidden=8)))
    rows = torch.arange(5)
    starts = Starts(
        pixels=torch.randint(0, 256, (5, 3, 16, 16), dtype=torch.uint8), rows=rows[:, None].repeat(1, 3), anchors=rows,
        proprio=torch.rand(5, 3, 2), actions=torch.zeros(5, 3, 2),
    )  # fmt: skip
    config = ImaginationConfig(num_worlds=6, horizon=4, slice_size=6, precision="float32")
    return world, reward, Imagination(world, reward, Rule(threshold=0.9, hits=1), starts, config, engine="eager")


@pytest.mark.parametrize("roll", ["decoupled", "coupled", "straight-through"])
def test_only_what_decides_the_critic_and_the_dynamics_learn(start, surrogate, clone, roll) -> None:
    """No gradient reaches world, classifier or eyes, and what was given stays as it was."""
    world, reward, imagined = dream()
    for module in (world, reward):
        module.requires_grad_(True)
    one = start(world=imagined, roll=roll, learn_std=True, entropy_coefficient=0.1)
    parts = {
        "world": world, "reward": reward, "given surrogate": surrogate, "given clone": clone,
        "policy": one.policy, "critic": one.critic, "target": one.target, "surrogate": one.surrogate,
    }  # fmt: skip
    before = {name: weights(part) for name, part in parts.items()}
    for _ in range(2):
        assert all(math.isfinite(each) for each in one.iterate().values())
    moved = {
        f"{part}.{name}" for part in parts for name, each in weights(parts[part]).items()
        if not torch.equal(each, before[part][name])
    }  # fmt: skip
    may = ("policy.decision", "policy.log_std", "critic.decision", "target.decision", "surrogate.dynamics")
    assert all(name.startswith(may) for name in moved)
    assert {name for name in may if any(each.startswith(name) for each in moved)} == set(may)
    assert "surrogate.dynamics.step_std" not in moved
    for part in ("world", "reward", "given surrogate", "given clone"):
        assert all(each.grad is None for each in parts[part].parameters()), part
    for part in ("policy", "critic", "surrogate"):
        graded = [name for name, each in parts[part].named_parameters() if each.grad is not None]
        assert all(f"{part}.{name}".startswith(may) for name in graded)
    assert all(each.grad is None for each in one.target.parameters())


def test_a_fixed_deviation_is_the_configs_and_a_learnt_one_keeps_its_bounds(start) -> None:
    assert [start(std=0.2).iterate()["std"] for _ in range(2)] == pytest.approx([0.2] * 2)
    wide = start("wide", learn_std=True, entropy_coefficient=10.0, learning_rate=0.3)
    assert [wide.iterate()["std"] for _ in range(4)][-1] == pytest.approx(1.0)


def test_a_learning_rate_of_zero_moves_nothing(start) -> None:
    one = start(learning_rate=0.0, critic_learning_rate=0.0, surrogate_learning_rate=0.0)
    before = [weights(each) for each in (one.policy, one.critic, one.target, one.surrogate)]
    one.iterate()
    assert all(map(same, before, [weights(each) for each in (one.policy, one.critic, one.target, one.surrogate)]))


def test_no_step_goes_further_than_it_may_from_the_policy_that_acted(start) -> None:
    settings = {"steps": 3, "learning_rate": 0.1, "critic_windows": 1, "rehearsals": 0}
    free, kept = start("free", **settings), start("kept", **settings, target_kl=1e-3)
    before, clone = weights(free.policy), copy.deepcopy(free.policy)
    for one in (free, kept):
        one.iterate()
    found = []
    for one in (free, kept):
        seen = one.memory.latents[0].flatten(0, 1)
        with torch.no_grad():
            found.append(divergence(*one.policy.decide(seen), *clone.decide(seen)).mean().item())
    assert found[0] > 0.1
    assert found[1] == pytest.approx(1e-3, rel=0.3)
    far, near = (torch.cat([(each - before[name]).flatten() for name, each in weights(one.policy).items()])
                 for one in (free, kept))  # fmt: skip
    torch.testing.assert_close(near, far * (near.norm() / far.norm()), rtol=1e-3, atol=1e-6)


def test_passes_end_where_the_policy_has_gone_as_far_as_it_may(start) -> None:
    settings = {"steps": 3, "learning_rate": 1e-2, "critic_windows": 1, "rehearsals": 0}
    one = start("one", **settings, passes=1)
    alone = one.iterate()
    free = start("free", **settings, passes=7).iterate()
    assert (alone["passes"], free["passes"]) == (1, 7)
    assert free["kl"] > 4 * alone["kl"] > 0
    bound = 2.5 * alone["kl"]
    kept, clone = start("kept", **settings, passes=7, target_kl=bound), copy.deepcopy(one.clone)
    figures = kept.iterate()
    assert figures["passes"] < 7
    assert figures["kl"] == pytest.approx(bound)
    seen = kept.memory.newest
    with torch.no_grad():
        found = divergence(*kept.policy.decide(seen), *clone.decide(seen)).mean().item()
    assert found == pytest.approx(bound, rel=0.3)
    assert {each["reward"] for each in (alone, figures)} == {figures["reward"]}, "the world is lived in once"


def test_a_rehearsal_begins_anywhere_that_was_lately_visited(start, monkeypatch) -> None:
    """As many moments as it should be, of the newest segments, and not of the present one alone."""
    one, seen, rehearse = start(passes=0, rehearsals=2, rehearsed=30, ahead=4), [], first_order.rehearsed

    def noted(policy, surrogate, critic, place, chances, **settings):
        seen.append((place, chances.shape, [each.clone() for each in policy.decision.parameters()]))
        return rehearse(policy, surrogate, critic, place, chances, **settings)

    monkeypatch.setattr(first_order, "rehearsed", noted)
    before = weights(one.policy)
    one.iterate()
    assert [shape for _, shape, _ in seen] == [(4, 30, 2)] * 4
    been = {tuple(each) for each in one.memory.latents[:2].flatten(0, 2).tolist()}
    last = {tuple(each) for each in one.memory.newest.tolist()}
    drawn = [{tuple(each) for each in place.latent.tolist()} for place, _, _ in seen]
    assert all(each <= been for each in drawn)
    assert not drawn[2] <= last, "the segment before the last one is remembered too"
    assert not torch.equal(seen[0][2][0], seen[1][2][0]), "every one moves the policy"
    assert not same(before, weights(one.policy))


@pytest.mark.parametrize(("trust", "passes"), [(-1.0, 3), (1.0, 1)])
def test_what_foresees_badly_is_not_rehearsed_in(start, trust, passes) -> None:
    figures = start(passes=1, rehearsals=2, trust=trust).iterate()
    assert -1 < figures["cosine"] < 1
    assert figures["passes"] == passes


def test_only_the_critic_and_the_dynamics_learn_at_first(start) -> None:
    one = start(value_warm_up=2)
    for number in range(3):
        before = [weights(each) for each in (one.policy, one.critic, one.surrogate)]
        one.iterate()
        moved = [
            not same(*pair) for pair in zip(before, map(weights, (one.policy, one.critic, one.surrogate)), strict=True)
        ]
        assert moved == [number == 2, True, True]


def test_through_the_world_itself_the_values_are_the_same_and_the_slopes_are_others(start) -> None:
    """The first segment of one refinement is that of the other, but for where its gradient comes from."""
    ones = [start(roll, roll=roll, world=dream()[2]) for roll in ("decoupled", "straight-through")]
    figures = [one.iterate() for one in ones]
    memories = [one.memory for one in ones]
    for name in ("latents", "after", "rewards"):
        assert torch.equal(*(getattr(memory, name)[0] for memory in memories)), name
    assert figures[0]["gradient"] != figures[1]["gradient"]
    with pytest.raises(UserError, match="only what a network imagines has a gradient"):
        start("simulated", roll="straight-through")


def test_a_segment_of_the_world_can_be_followed_again_after_the_world_has_gone_on(start) -> None:
    """With ends in its middle: the same actions have the same slopes each time."""
    one = start(roll="straight-through", world=dream()[2])
    one.worlds.reset(0)
    place, found = Place(one.eyes.look(), one.surrogate.first_cell(6)), []
    chances = torch.randn(6, 6, 2, generator=torch.Generator().manual_seed(1))
    segment = live(one.policy, one.surrogate, one.eyes, place, chances, through=one.through).segment
    assert segment.truncated[:-1].any()
    for _ in range(2):
        settings = {"gamma": 0.9, "entropy_coefficient": 0.0, "excess": 0.0, "through": one.through}
        objective = worth(one.policy, one.surrogate, one.target, segment, **settings)
        found.append(torch.autograd.grad(objective.sum(), list(one.actor.named.values())))
        one.worlds.advance(torch.zeros(6, 2))
    assert all(map(torch.equal, *found))
    assert any(each.abs().max() > 1e-6 for each in found[0])


def test_learning_rates_fall_linearly(start) -> None:
    one, rates = start(iterations=5, final_rate=0.5), []
    for _ in range(5):
        one.iterate()
        rates.append(one.actor.optimizer.param_groups[0]["lr"] / CONFIG.learning_rate)
    assert rates == pytest.approx([1, 0.9, 0.8, 0.7, 0.6])


def test_no_two_iterations_begin_with_the_same_seeds(start) -> None:
    worlds, seeds = worlds_of(), []
    reset = worlds.reset

    def noted(first):
        seeds.extend(range(first, first + 6))
        return reset(first)

    worlds.reset = noted
    one = start(world=worlds)
    for _ in range(3):
        one.iterate()
    assert len(set(seeds)) == len(seeds) == 18


@pytest.mark.parametrize("roll", ROLLS)
@pytest.mark.parametrize("stops", [(1,), (2, 3)])
def test_in_pieces_it_equals_an_uninterrupted_one_bit_for_bit(start, roll, stops) -> None:
    whole = start("whole", roll=roll, learn_std=True)
    figures = [whole.iterate() for _ in range(4)]
    for stop in (*stops, 4):
        one = start("pieces", roll=roll, learn_std=True)
        while one.iteration < stop:
            assert one.iterate() == figures[one.iteration - 1]
        one.save()
    assert same(everything(one), everything(whole))
    assert same(weights(one.surrogate), weights(whole.surrogate))
    parts = {name.split("/")[0] for name in everything(one)}
    assert parts == {"policy", "critic", "target", "dynamics", "ring", "memory"}


def test_what_it_draws_does_not_depend_on_what_others_drew(start) -> None:
    torch.manual_seed(1)
    one = start("one")
    torch.manual_seed(2)
    two = start("two")
    for _ in range(2):
        assert one.iterate() == two.iterate()
        torch.randn(3)
    assert start("other", seed=1).iterate() != start("again").iterate()


def test_a_checkpoint_of_something_else_is_refused(start, surrogate) -> None:
    start(origin="world 1").save()
    assert start(origin="world 1").iteration == 0
    taught = surrogate_of(history=2)
    with torch.no_grad():
        next(taught.dynamics.parameters()).add_(0.1)
    for changed, name in [
        ({"gamma": 0.5}, "config"), ({"clone": acting(surrogate, seed=5)[0]}, "clone"), ({"origin": "2"}, "origin"),
        ({"surrogate": taught}, "origin"), ({"roll": "coupled"}, "config"),
    ]:  # fmt: skip
        with pytest.raises(UserError, match=f"another .*{name}"):
            start(**{"origin": "world 1", **changed})


def test_a_whole_refinement_leaves_its_best_and_last_policy_and_what_learnt_beside_them(start, tmp_path) -> None:
    scores, judged = iter([0.3, 0.1, 0.5, 0.2]), []

    def score(policy) -> float:
        judged.append(digest(policy))
        return next(scores)

    one = start()
    result = refine(one, score)
    assert (result.iteration, result.score) == (4, 0.5)
    assert digest(load_policy(tmp_path / "run" / "best")) == judged[2] == digest(result.policy)
    assert digest(load_policy(tmp_path / "run" / "last")) == judged[3] == digest(one.policy)
    assert digest(Surrogate.from_pretrained(tmp_path / "run" / "surrogate")) == digest(one.surrogate)
    assert digest(ValueNetwork.from_pretrained(tmp_path / "run" / "value")) == digest(one.critic)


@pytest.mark.parametrize("roll", ["decoupled", "coupled"])
def test_a_refresh_learns_from_stretches_of_one_life_alone(start, roll) -> None:
    """What an end cut is left out; an end with the last action cuts nothing."""
    one = knows(start, roll=roll, world=worlds_of(noise=0.0, won=0.6, horizon=4), ring=1000, critic_windows=100)
    for _ in range(4):
        one.iterate()
    latents, actions = (each[: len(one.ring)] for each in one.ring.track)
    for t in range(3):
        torch.testing.assert_close(flow(latents[:, t], actions[:, t]), latents[:, t + 1])
    ends = (one.memory.terminated | one.memory.truncated)[:8]
    whole = ~ends[:, :-1].any(1)
    assert len(one.ring) == whole.sum()
    assert 0 < whole.sum() < whole.numel()
    assert (ends[:, -1] & whole).any()


def test_the_ring_holds_the_newest_of_what_was_lived(start) -> None:
    one = knows(start, world=worlds_of(won=math.inf, horizon=1000), ring=10)
    for _ in range(2):
        one.iterate()
    assert (one.ring.written, len(one.ring)) == (24, 10)
    newest = torch.cat([one.memory.latents[row] for row in (2 % 3, 3 % 3)], 1)[:, -10:]
    held = {tuple(each) for each in one.ring.track.latents[:, 0].tolist()}
    assert held == {tuple(each) for each in newest[0].tolist()}


def test_without_refreshes_the_dynamics_stay_as_they_are(start, surrogate) -> None:
    one = start(refreshes=0)
    figures = [one.iterate() for _ in range(2)]
    assert same(weights(one.surrogate), weights(surrogate))
    assert {each["refresh_loss"] for each in figures} == {0.0}
    other = start("other")
    other.iterate()
    assert not same(weights(other.surrogate.dynamics), weights(surrogate.dynamics))


def test_a_refresh_teaches_the_dynamics_what_was_lived(start, surrogate) -> None:
    settings = {"refreshes": 20, "learning_rate": 0.0, "surrogate_learning_rate": 1e-2, "refresh_real": 0, "ring": 1000}
    one = start(**settings)
    for _ in range(3):
        one.iterate()
    latents, actions = (each[: len(one.ring)] for each in one.ring.track)
    losses = []
    for dynamics in (surrogate.dynamics, one.surrogate.dynamics):
        with torch.no_grad():
            said = dynamics(latents[:, 0], actions[:, 0], torch.zeros(len(latents), 8))
        losses.append((said.mean - latents[:, 1]).square().mean())
    assert losses[1] < 0.5 * losses[0]


def test_a_refresh_draws_as_many_real_sequences_as_it_should(start, tracks, monkeypatch) -> None:
    drawn, sample = [], RealTracks.sample

    def noted(self, count, steps, generator):
        drawn.append((self is tracks, count, steps))
        return sample(self, count, steps, generator)

    monkeypatch.setattr(RealTracks, "sample", noted)
    start("both").iterate()
    assert drawn == [(True, 4, 3)] * 4
    drawn.clear()
    start("real", refresh_imagined=0).iterate()
    assert drawn == [(True, 4, 3)] * 4
    drawn.clear()
    start("none", refresh_real=0).iterate()
    assert drawn == []


def test_the_surrogate_alone_neither_steps_the_world_nor_learns_from_itself(start, surrogate) -> None:
    worlds = worlds_of()
    one = start(roll="surrogate", world=worlds)
    one.iterate()
    assert worlds.given == []
    assert len(one.ring) == 0
    assert same(weights(one.surrogate), weights(surrogate))


def test_the_critic_learns_from_the_newest_segments() -> None:
    memory = Memory(dataclasses.replace(CONFIG, worlds=2, critic_windows=3), 9, 8)
    critic, acted = acting(surrogate_of())[1], torch.zeros(3, 2, 2)
    for number in range(5):
        ends = torch.zeros(3, 2, dtype=torch.bool)
        full = torch.full((3, 2, 9), float(number))
        memory.add(Segment(full, full + 0.5, acted, acted, torch.zeros(3, 2), ends, ends, full[..., :8]))
    latents, returns, before = memory.lessons(critic, 0.9, 0.0)
    assert sorted(set(latents.flatten().tolist())) == [2, 3, 4]
    torch.testing.assert_close(returns, 0.9 * critic.judge(latents + 0.5))
    torch.testing.assert_close(before, critic.judge(latents))
    generator = torch.Generator().manual_seed(0)
    places = memory.places(200, generator)
    assert sorted(set(places[0].flatten().tolist())) == [2, 3, 4]
    assert torch.equal(places[0][:, :8], places[1]), "a place is a latent and its own cell"
    empty = Memory(dataclasses.replace(CONFIG, worlds=2, critic_windows=3), 9, 8)
    empty.add(Segment(full, full, acted, acted, torch.zeros(3, 2), ends, ends, full[..., :8]))
    assert len(empty.lessons(critic, 0.9, 0.5)[0]) == 6, "nothing that was never lived"
    assert set(empty.places(50, generator)[0].flatten().tolist()) == {4.0}


def test_the_target_follows_the_critic_by_a_share() -> None:
    network, target = (ValueNetwork.beside(acting(surrogate_of(), seed=seed)[0]) for seed in (1, 2))
    with torch.no_grad():
        for weight in network.decision.parameters():
            weight.normal_()
    before = weights(target)
    follow(target, network, 0.25)
    for name, each in weights(target).items():
        torch.testing.assert_close(each, before[name] + 0.25 * (network.state_dict()[name] - before[name]))


def spoilt(one, how):
    with torch.no_grad():
        if how == "huge reward":
            one.surrogate.reads.reward[-1].weight.mul_(1e12)
        elif how == "NaN in the policy":
            one.policy.decision[0].weight[0, 0] = torch.nan
        elif how == "NaN in the surrogate":
            one.surrogate.dynamics.body[0].weight[0, 0] = torch.nan
        else:
            one.target.decision[0].weight[0, 0] = torch.inf


@pytest.mark.parametrize("roll", ROLLS)
@pytest.mark.parametrize(
    ("how", "norm"),
    [("huge reward", r"\de\+"), ("NaN in the policy", "nan"), ("NaN in the surrogate", "nan"),
     ("infinite critic", "nan")],
)  # fmt: skip
def test_a_gradient_that_explodes_ends_it_and_costs_nothing_that_was_kept(start, tmp_path, roll, how, norm) -> None:
    one = start(roll=roll)
    for _ in range(2):
        one.iterate()
    one.keep_best(0.5)
    one.save()
    before = weights(one.policy)
    kept = [(tmp_path / "run" / name).read_bytes() for name in (CHECKPOINT, "best/policy.safetensors")]
    spoilt(one, how)
    during = weights(one.policy)
    with pytest.raises(UserError, match=rf"gradient of norm .*{norm}.* in iteration 2 of.*checkpoint in .*run"):
        one.iterate()
    assert all(torch.equal(each.nan_to_num(), during[name].nan_to_num()) for name, each in weights(one.policy).items())
    assert kept == [(tmp_path / "run" / name).read_bytes() for name in (CHECKPOINT, "best/policy.safetensors")]
    again = start(roll=roll)
    assert (again.iteration, again.best_score, again.best_iteration) == (2, 0.5, 2)
    assert same(weights(again.policy), before)
    again.iterate()


def test_a_critic_that_breaks_is_named(start) -> None:
    one = start()
    with torch.no_grad():
        one.critic.decision[0].weight[0, 0] = torch.nan
    with pytest.raises(UserError, match="critic_loss_0 is not finite in iteration 0"):
        one.iterate()


def test_a_bound_of_the_norm_is_a_setting(start) -> None:
    norm = start("free").iterate()["gradient"]
    with pytest.raises(UserError, match="beyond 1e-07"):
        start("strict", exploding=1e-7).iterate()
    assert norm < CONFIG.exploding


def test_a_policy_with_other_eyes_is_refused(start, surrogate) -> None:
    for other in (surrogate_of(9, history=2), surrogate_of(history=2, latent=4), surrogate_of(history=1)):
        with pytest.raises(UserError, match=r"policy with other eyes.*--eyes surrogate"):
            start(clone=acting(other)[0])
    seeing = acting(surrogate)[0]
    seeing.proprio_mean.add_(0.1)
    with pytest.raises(UserError, match="other eyes"):
        start(clone=seeing)


@pytest.mark.parametrize("sizes", [{"image_size": 8}, {"action_dim": 3}, {"proprio_dim": 4}, {"history": 3}])
def test_a_surrogate_of_another_world_is_refused(start, sizes) -> None:
    other = surrogate_of(**{"history": 2, **sizes})
    with pytest.raises(UserError, match=r"a surrogate of image size.*these worlds have \(16, 2, 2\), and remember 2"):
        start(surrogate=other, clone=acting(other)[0])


def test_more_worlds_than_the_config_says_are_refused(start) -> None:
    with pytest.raises(UserError, match=r"7 worlds.*says 6"):
        start(world=worlds_of(7))


def test_a_horizon_longer_than_the_real_episodes_is_refused(start) -> None:
    longer = {"steps": 11, "horizon": 11}
    with pytest.raises(UserError, match=r"horizon 11.*has 10 actions"):
        start(**longer)
    start("none", **longer, tracks=None, refresh_real=0)
    start("just", steps=10, horizon=10).iterate()


@pytest.mark.parametrize(
    "settings",
    [{"horizon": 4, "steps": 6}, {"gamma": 1.1}, {"exploding": 0.0}, {"excess": -1.0}, {"ring": 0},
     {"refreshes": 1, "refresh_imagined": 0, "refresh_real": 0}, {"target_step": 2.0}, {"target_kl": 0.0}],
)  # fmt: skip
def test_settings_outside_their_range_are_refused(settings) -> None:
    with pytest.raises(ValueError, match="|".join(settings)):
        dataclasses.replace(CONFIG, **settings)
