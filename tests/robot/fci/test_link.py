"""The lossy link, without a socket and without libfranka."""

import pytest

from tests.robot.fci.link import Faults, Link


class Wire:
    """A socket that a test fills and empties."""

    def __init__(self):
        self.sent, self.arrived = [], []

    def recv(self, _):
        if not self.arrived:
            raise BlockingIOError
        return self.arrived.pop(0)

    def sendto(self, data, _):
        self.sent.append(data)


def carry(faults, ticks, drop=0):
    """Commands and states that come through, as (tick, what was sent at which tick)."""
    wire, link = Wire(), Link(seed=1)
    link.attach(wire)
    link.faults, link.commands.drop = faults, drop
    commands, states = [], []
    for tick in range(ticks):
        wire.arrived.append(tick)
        link.tick()
        while (sent := link.command()) is not None:
            commands.append((tick, sent))
        link.sendto(tick, None)
        states += [(tick, sent) for sent in wire.sent]
        wire.sent.clear()
    return commands, states, link


def test_a_link_without_faults_carries_everything_at_once():
    commands, states, _ = carry(Faults(), 50)
    assert commands == states == [(tick, tick) for tick in range(50)]


def test_a_link_delays_loses_and_drops():
    commands, states, link = carry(Faults(delay_commands_ms=3, delay_states_ms=2), 50, drop=5)
    assert commands == [(tick, tick - 3) for tick in range(8, 50)]
    assert states == [(tick, tick - 2) for tick in range(2, 50)]
    assert (link.commands.lost, link.states.lost) == (5, 0)
    commands, states, link = carry(Faults(lose_commands=0.2, lose_states=0.4), 4000)
    assert link.commands.lost == 4000 - len(commands) == pytest.approx(800, rel=0.15)
    assert link.states.lost == 4000 - len(states) == pytest.approx(1600, rel=0.15)
    late = {tick - sent for tick, sent in carry(Faults(jitter_ms=3), 200)[0]}
    assert late == {0, 1, 2, 3}


def test_faults_are_checked():
    with pytest.raises(ValueError, match=r"lose_states is 2.*chance"):
        Faults(lose_states=2)
    with pytest.raises(ValueError, match="delay_states_ms is -1"):
        Faults(delay_states_ms=-1)
