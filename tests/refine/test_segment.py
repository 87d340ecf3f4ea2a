"""A segment: values of the world, derivatives of the surrogate, and a sum that ends where an episode does."""

from types import SimpleNamespace

import pytest
import torch

from tests.surrogate.toy import Written, acting, knowing, surrogate_of
from w4rl_fast.refine.segment import Eyes, Place, Segment, live, rehearsed, worth

pytestmark = pytest.mark.filterwarnings("ignore:Initializing zero-element")

MIX = torch.tensor([[0.9, 0.3], [-0.2, 0.8]])
BEGIN = torch.tensor([[0.4, -0.2], [-0.5, 0.3], [0.1, 0.6], [-0.2, -0.4]])
GAMMA = 0.9


def flow(state, action):
    return state @ MIX.T + 0.3 * torch.tanh(action + state.flip(1))


def wrong(state, action):
    """Nearly the same, and wrong about everything."""
    return state @ (MIX + 0.2) + 0.2 * torch.tanh(0.5 * action + state) - 0.1


def near(state):
    return -(state - 0.5).square().sum(-1)


class Segments:
    """A policy and a critic that live with a surrogate in worlds."""

    def __init__(self, surrogate, worlds, **policy) -> None:
        self.surrogate, self.worlds = surrogate, worlds
        self.policy, self.critic = acting(surrogate, **policy)
        self.policy.log_std.requires_grad_(False)
        self.weights = list(self.policy.decision.parameters())
        worlds.reset(0)
        self.eyes = Eyes(surrogate, worlds)
        self.begin = Place(self.eyes.look(), surrogate.first_cell(worlds.num_worlds))

    def live(self, chances, *, own=False, alone=False, place=None, **settings):
        """A segment, and what it was worth to the policy that lived it; `own`, what the surrogate alone makes of it."""
        lived = live(self.policy, self.surrogate, self.eyes, place or self.begin, chances, alone=alone)
        found = self.rehearse if own or alone else self.worth
        return SimpleNamespace(**lived._asdict(), objective=found(lived.segment, **settings))

    def worth(self, segment, **settings):
        given = {"gamma": GAMMA, "entropy_coefficient": 0.0, "excess": 0.0, **settings}
        return worth(self.policy, self.surrogate, self.critic, segment, **given)

    def rehearse(self, segment, **settings):
        given = {"gamma": GAMMA, "entropy_coefficient": 0.0, "excess": 0.0, **settings}
        place = Place(segment.latents[0], segment.cells[0])
        return rehearsed(self.policy, self.surrogate, self.critic, place, segment.chances, **given)

    def gradient(self, objective):
        found = torch.autograd.grad(objective, self.weights, allow_unused=True)
        return torch.cat([each.flatten() for each in found])


def segments(believed=flow, *, pay=near, scale=0.7, std=0.3, **worlds):
    return Segments(knowing(believed, pay), Written(flow, BEGIN, **worlds), scale=scale, std=std)


def chances_of(steps, count=4, scale=0.3, seed=3):
    return scale * torch.randn(steps, count, 2, generator=torch.Generator().manual_seed(seed))


def unrolled(one, chances, flow, *, entropy=0.0, excess=0.0, came=None, ended=None, truncated=None, begun=None):
    """The objective by plain back-propagation through a formula; its values, where `came` says them, are those."""
    state, total = one.begin.latent, torch.zeros(len(BEGIN))
    discount, going = torch.ones(len(BEGIN)), torch.ones(len(BEGIN))
    for t, chance in enumerate(chances):
        mean, std = one.policy.decide(state)
        action = mean + std * chance
        assert action.abs().max() < 1
        state = flow(state, action)
        if came is not None:
            state = came[t] + (state - state.detach())
        bonus = (0.5 + 0.5 * torch.log(2 * torch.pi * std**2)).sum(1)
        total = total + discount * (near(state) + entropy * bonus - excess * (mean.abs() - 1).relu().square().sum(1))
        discount, going = GAMMA * discount, torch.ones(len(BEGIN))
        if ended is not None:
            total = total + truncated[t] * discount * one.critic.judge(state)
            discount, going = torch.where(ended[t], 1.0, discount), (~ended[t]).float()
            following = begun[t + 1] if t + 1 < len(begun) else state
            state = torch.where(ended[t][:, None], following, state)
    return total + going * discount * one.critic.judge(state)


@pytest.mark.parametrize("own", [False, True])
def test_where_the_surrogate_is_the_world_the_gradient_is_that_of_the_world(own) -> None:
    one, chances = segments(), chances_of(5)
    lived = one.live(chances, own=own, entropy_coefficient=0.2)
    expected = unrolled(one, chances, flow, entropy=0.2)
    torch.testing.assert_close(lived.objective, expected)
    for world in range(4):
        one_world = one.gradient(one.live(chances, own=own, place=begin_again(one)).objective[world])
        torch.testing.assert_close(one_world, one.gradient(unrolled(one, chances, flow)[world]), rtol=1e-4, atol=1e-6)
        assert one_world.norm() > 0.05


def begin_again(one):
    one.worlds.reset(0)
    return one.begin


def test_values_are_the_worlds_bit_for_bit_and_the_gradient_is_the_surrogates() -> None:
    one, chances = segments(wrong, noise=0.05), chances_of(5)
    lived = one.live(chances)
    again = Written(flow, BEGIN, noise=0.05)
    again.reset(0)
    for t in range(5):
        assert torch.equal(lived.segment.latents[t], again.observe().proprio)
        again.step(lived.segment.actions[t])
        assert torch.equal(lived.segment.after[t], again.observe().proprio)
        assert torch.equal(lived.segment.rewards[t], near(again.observe().proprio))
    assert torch.equal(lived.place.latent, again.observe().proprio)
    expected = unrolled(one, chances, wrong, came=lived.segment.after)
    torch.testing.assert_close(lived.objective, expected)
    found = one.gradient(lived.objective.sum())
    torch.testing.assert_close(found, one.gradient(expected.sum()), rtol=1e-4, atol=1e-6)
    of_the_world = one.gradient(unrolled(one, chances, flow, came=lived.segment.after).sum())
    assert (found - of_the_world).norm() > 0.1 * of_the_world.norm()


def test_no_action_acts_across_the_end_of_its_episode() -> None:
    """Ends of both kinds, in the middle and in the last step: the gradient is that of each episode by itself."""
    one, chances = segments(won=0.75, horizon=3), chances_of(6)
    lived = one.live(chances)
    ends = lived.segment.terminated | lived.segment.truncated
    assert lived.segment.terminated.any()
    assert lived.segment.truncated[:-1].any()
    expected = unrolled(
        one, chances, flow, ended=ends, truncated=lived.segment.truncated.float(), begun=lived.segment.latents
    )
    torch.testing.assert_close(lived.objective, expected)
    found = one.gradient(lived.objective.sum())
    torch.testing.assert_close(found, one.gradient(expected.sum()), rtol=1e-4, atol=1e-6)


def walk(state, action):
    """One further at every step, whatever is done."""
    return torch.stack([state[:, 0] + 1 + 0 * action[:, 0], state[:, 1]], 1)


def test_an_end_ends_the_sum_and_a_new_episode_begins_one() -> None:
    """By hand: a world has won above 2.5 and is late after 3 steps; place and reward are the same, and the critic
    expects ten times as much.
    """
    begin = torch.tensor([[1.0, 0], [-10, 0], [-20, 0], [1, 0]])
    one = Segments(knowing(walk, lambda state: state[:, 0]), Written(walk, begin, won=2.5, horizon=3))
    one.critic = SimpleNamespace(judge=lambda latent: 10 * latent[:, 0])
    lived = one.live(chances_of(5))
    g = GAMMA
    expected = [
        (2 + 3 * g) + (-9 - 8 * g - 7 * g**2 + g**3 * -70),  # won; then late in the very last step
        (-9 - 8 * g - 7 * g**2 + g**3 * -70) + (-19 - 18 * g + g**2 * -180),  # late; then it goes on
        (-19 - 18 * g - 17 * g**2 + g**3 * -170) + (2 + 3 * g),  # late; then won in the very last step
        (2 + 3 * g) + (2 + 3 * g) + (-9 + g * -90),  # won and won again; then it goes on
    ]
    torch.testing.assert_close(lived.objective, torch.tensor(expected))
    assert lived.segment.rewards.T.tolist()[0] == [2, 3, -9, -8, -7]
    assert lived.segment.terminated.T.int().tolist() == [[0, 1, 0, 0, 0], [0] * 5, [0, 0, 0, 0, 1], [0, 1, 0, 1, 0]]
    assert lived.segment.truncated.T.int().tolist() == [[0, 0, 0, 0, 1], [0, 0, 1, 0, 0], [0, 0, 1, 0, 0], [0] * 5]
    assert lived.segment.latents[..., 0].T.tolist()[3] == [1, 2, 1, 2, -10]
    assert lived.place.latent[:, 0].tolist() == [-20, -18, 1, -9], "where the next episodes begin, or this one is"
    assert lived.place.cell[:, 0].tolist() == [0, 2, 0, 1], "which of all this remember nothing"


class Untouchable:
    def __getattr__(self, name):
        raise AssertionError(f"the world was asked for {name}")


def test_a_rollout_of_the_surrogate_alone_never_touches_the_world() -> None:
    one, chances = segments(wrong), chances_of(5)
    one.eyes = SimpleNamespace(worlds=Untouchable(), look=Untouchable())
    lived = one.live(chances, alone=True)
    expected = unrolled(one, chances, wrong)
    torch.testing.assert_close(lived.objective, expected)
    found = one.gradient(lived.objective.sum())
    torch.testing.assert_close(found, one.gradient(expected.sum()), rtol=1e-4, atol=1e-6)
    assert torch.equal(lived.segment.latents[1:], lived.segment.after[:-1])
    assert torch.equal(lived.segment.rewards, near(lived.segment.after))
    assert not (lived.segment.terminated | lived.segment.truncated).any()


def test_a_rehearsal_dreams_by_itself_while_the_world_is_lived_beside_it() -> None:
    one, chances = segments(wrong), chances_of(5)
    lived = one.live(chances, own=True)
    expected = unrolled(one, chances, wrong)
    torch.testing.assert_close(lived.objective, expected)
    found = one.gradient(lived.objective.sum())
    torch.testing.assert_close(found, one.gradient(expected.sum()), rtol=1e-4, atol=1e-6)
    state = BEGIN
    for t, chance in enumerate(chances):
        mean, std = one.policy.decide(state)
        torch.testing.assert_close(lived.segment.actions[t], (mean + std * chance).detach())
        state = flow(state, lived.segment.actions[t])
        torch.testing.assert_close(lived.segment.after[t], state)
        torch.testing.assert_close(lived.segment.rewards[t], near(state))
    torch.testing.assert_close(lived.place.latent, state)


@pytest.mark.parametrize("own", [False, True])
def test_an_action_beyond_its_bounds_is_one_at_them_and_only_its_excess_leads_back(own) -> None:
    """More of what is not carried out earns nothing, whatever the surrogate would say of it."""
    one, bias = segments(), torch.tensor([3.0, -4.0])
    with torch.no_grad():
        one.policy.decision[-1].bias.copy_(bias)
    lived = one.live(chances_of(3), own=own)
    given = torch.stack(one.worlds.given)
    assert torch.equal(given, torch.tensor([1.0, -1.0]).expand(3, 4, 2))
    assert torch.equal(given, lived.segment.actions)
    slope = torch.autograd.grad(lived.objective.sum(), one.policy.decision[-1].bias)[0]
    assert slope.abs().max() == 0
    dear = one.live(chances_of(3), own=own, excess=0.1, place=begin_again(one)).objective.sum()
    assert (torch.autograd.grad(dear, one.policy.decision[-1].bias)[0].sign() == -bias.sign()).all()


def test_means_beyond_the_bounds_cost_their_excess() -> None:
    one = segments()
    with torch.no_grad():
        one.policy.decision[-1].weight.zero_()
        one.policy.decision[-1].bias.copy_(torch.tensor([1.5, -3.0]))
    free = one.live(chances_of(2), excess=0.0).objective
    dear = one.live(chances_of(2), excess=0.1, place=begin_again(one)).objective
    torch.testing.assert_close(free - dear, torch.full((4,), (1 + GAMMA) * 0.1 * (0.5**2 + 2**2)))


def test_the_entropy_of_a_deviation_that_learns_is_paid() -> None:
    one, chances = segments(), chances_of(4)
    one.policy.log_std.requires_grad_()
    slopes = [
        torch.autograd.grad(
            one.live(chances, entropy_coefficient=each, place=begin_again(one)).objective.sum(), one.policy.log_std
        )[0]
        for each in (0.0, 0.5)
    ]
    paid = 0.5 * 4 * sum(GAMMA**t for t in range(4))
    torch.testing.assert_close(slopes[1] - slopes[0], torch.full((2,), paid))


def test_what_was_lived_carries_no_gradient_and_only_the_objective_does() -> None:
    one = segments(wrong)
    lived = one.live(chances_of(3))
    assert not any(each.requires_grad for each in (*lived.segment, *lived.place, lived.cosine))
    assert lived.objective.requires_grad
    later = one.live(chances_of(3, seed=9), place=lived.place)
    assert one.gradient(later.objective.sum()).isfinite().all()
    assert torch.equal(later.segment.latents[0], lived.segment.after[-1])


@pytest.mark.parametrize(
    ("believed", "cosine"),
    [(flow, 1.0), (lambda state, action: 2 * state - flow(state, action), -1.0), (wrong, None)],
)
def test_the_cosine_compares_what_was_foreseen_with_what_came(believed, cosine) -> None:
    found = segments(believed).live(chances_of(4)).cosine
    assert found.shape == (4,)
    assert found.tolist() == pytest.approx([cosine] * 4, abs=1e-3) if cosine else found.abs().max() < 0.999


@pytest.mark.parametrize("alone", [False, True])
def test_one_segment_is_two_halves(alone) -> None:
    """Latents, rewards and where it ends do not depend on where a life is cut."""
    one, chances = segments(wrong, horizon=3, noise=0.02), chances_of(6)
    whole = one.live(chances, alone=alone)
    first = one.live(chances[:2], alone=alone, place=begin_again(one))
    second = one.live(chances[2:], alone=alone, place=first.place)
    pairs = zip(first.segment, second.segment, strict=True)
    halves = Segment(*(torch.cat(each) for each in pairs))
    for name, each, other in zip(whole.segment._fields, whole.segment, halves, strict=True):
        assert torch.equal(each, other), name
    assert torch.equal(second.place.cell, whole.place.cell)
    assert torch.equal(second.segment.cells[0], first.place.cell)


def test_a_policy_that_has_moved_is_led_by_what_the_actions_that_were_taken_were_worth() -> None:
    """The values stay those that came; the gradient is that of actions around those which were taken."""
    one, chances = segments(wrong, won=0.75, horizon=3), chances_of(6)
    lived = one.live(chances)
    with torch.no_grad():
        for weight in one.weights:
            weight.mul_(1.3)
    again = one.worth(lived.segment)
    assert torch.equal(again, lived.objective)
    expected, state = torch.zeros(4), lived.segment.latents[0]
    discount, going = torch.ones(4), torch.ones(4)
    for t, chance in enumerate(chances):
        mean, std = one.policy.decide(state)
        chosen = mean + std * chance
        action = lived.segment.actions[t] + (chosen - chosen.detach())
        foreseen = wrong(state, action)
        state = lived.segment.after[t] + (foreseen - foreseen.detach())
        expected = expected + discount * near(state)
        late, won = lived.segment.truncated[t], lived.segment.terminated[t]
        discount, going = GAMMA * discount, (~(late | won)).float()
        expected = expected + late * discount * one.critic.judge(state)
        discount = torch.where(late | won, 1.0, discount)
        if t < 5:
            state = torch.where((late | won)[:, None], lived.segment.latents[t + 1], state)
    expected = expected + going * discount * one.critic.judge(state)
    torch.testing.assert_close(again, expected)
    found = one.gradient(again.sum())
    torch.testing.assert_close(found, one.gradient(expected.sum()), rtol=1e-4, atol=1e-6)


def test_a_rehearsal_is_of_what_the_policy_does_by_now() -> None:
    one, chances = segments(wrong), chances_of(5)
    lived = one.live(chances)
    with torch.no_grad():
        for weight in one.weights:
            weight.mul_(1.1)
    again, expected = one.rehearse(lived.segment), unrolled(one, chances, wrong)
    torch.testing.assert_close(again, expected)
    torch.testing.assert_close(one.gradient(again.sum()), one.gradient(expected.sum()), rtol=1e-4, atol=1e-6)


def test_a_rehearsal_goes_on_from_the_cell_that_a_moment_had() -> None:
    """A surrogate whose reward is how long it remembers having lived."""
    one = Segments(knowing(walk, near), Written(walk, BEGIN))
    segment = live(one.policy, one.surrogate, one.eyes, one.begin, chances_of(4)).segment
    assert segment.cells[:, :, 0].T.tolist() == [[0, 1, 2, 3]] * 4


@pytest.mark.parametrize("actions", ["raw", "two-hot"])
def test_the_gradient_through_a_real_surrogate_is_that_of_finite_differences(actions) -> None:
    """In its own rollout, through cells, readouts and critic, by every weight of the policy's last layer."""
    surrogate = surrogate_of(actions=actions)
    policy, critic = acting(surrogate, scale=0.5)
    if actions == "raw":
        for network in (surrogate, policy, critic):
            network.double()
    dtype, width = (torch.float64, 1e-6) if actions == "raw" else (torch.float32, 1e-2)
    generator = torch.Generator().manual_seed(2)
    place = Place(torch.randn(64, 9, generator=generator).to(dtype), torch.zeros(64, 8, dtype=dtype))
    chances = chances_of(4, 64, 0.2).to(dtype)
    eyes = SimpleNamespace(worlds=Untouchable())
    weight = policy.decision[-1].bias

    def objective():
        settings = {"gamma": GAMMA, "entropy_coefficient": 0.1, "excess": 0.1}
        segment = live(policy, surrogate, eyes, place, chances, alone=True).segment
        assert segment.actions.abs().max() < 1
        return rehearsed(policy, surrogate, critic, place, chances, **settings).mean()

    found = torch.autograd.grad(objective(), weight)[0]
    for number in range(len(weight)):
        with torch.no_grad():
            weight[number] += width
            up = objective()
            weight[number] -= 2 * width
            down = objective()
            weight[number] += width
        close = {"rtol": 1e-4, "atol": 1e-7} if actions == "raw" else {"rtol": 0.1, "atol": 1e-3}
        torch.testing.assert_close(found[number], (up - down) / (2 * width), **close)
