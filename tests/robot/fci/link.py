"""A lossy, slow link between an arm and its client, in ticks of the arm's clock."""

import heapq
import random
import select
import socket
from dataclasses import dataclass


@dataclass(frozen=True, kw_only=True, slots=True)
class Faults:
    """What goes wrong from now on: chances per packet, and delays in whole ms of the arm's clock.

    Jitter adds 0 to so many ms to each packet, each way; packets may overtake each other, as UDP lets them.
    """

    lose_commands: float = 0.0
    lose_states: float = 0.0
    delay_commands_ms: int = 0
    delay_states_ms: int = 0
    jitter_ms: int = 0

    def __post_init__(self) -> None:
        for name in ("lose_commands", "lose_states"):
            if not 0 <= getattr(self, name) <= 1:
                raise ValueError(f"{name} is {getattr(self, name)}; a chance lies in [0, 1]")
        for name in ("delay_commands_ms", "delay_states_ms", "jitter_ms"):
            if getattr(self, name) < 0:
                raise ValueError(f"{name} is {getattr(self, name)}; no packet comes before it is sent: give 0 or more")


class Path:
    """One direction of a link: what was put in comes out late, or never."""

    def __init__(self, rng: random.Random) -> None:
        """Begin empty; the generator decides every loss and every jitter."""
        self._rng, self._waiting, self._put, self._newest = rng, [], 0, 0
        self.lost = self.delayed = self.drop = 0

    def put(self, packet: tuple, now: int, chance: float, delay: int, jitter: int) -> None:
        """Take a packet at a tick."""
        self._put += 1
        if self.drop or (chance and self._rng.random() < chance):
            self.drop = max(0, self.drop - 1)
            self.lost += 1
            return
        delay += self._rng.randint(0, jitter) if jitter else 0
        self.delayed += delay > 0
        heapq.heappush(self._waiting, (now + delay, self._put, packet))

    def get(self, now: int) -> tuple[tuple, bool] | None:
        """The next packet that is due by a tick, if any, and whether it was put in after all that came out before."""
        if not self._waiting or self._waiting[0][0] > now:
            return None
        _, number, packet = heapq.heappop(self._waiting)
        ahead = number > self._newest
        self._newest = max(self._newest, number)
        return packet, ahead

    def clear(self) -> None:
        """Forget what is under way."""
        self._waiting.clear()


class Link:
    """Stands in for the UDP socket of a server; `tick` once per ms before it is read."""

    def __init__(self, seed: int = 0) -> None:
        """Begin without a socket and without faults."""
        self.faults = Faults()
        self.commands, self.states = Path(random.Random(seed)), Path(random.Random(seed + 1))
        self._socket: socket.socket | None = None
        self._now, self._sent = 0, False

    def attach(self, udp: socket.socket) -> None:
        """Carry the packets of a new connection."""
        self._socket = udp
        self.commands.clear()
        self.states.clear()

    def tick(self) -> None:
        """Go on by one ms and take in what has arrived."""
        self._now += 1
        if self._socket is None:
            return
        faults = self.faults
        while True:
            try:
                packet = self._socket.recv(65536)
            except (BlockingIOError, ConnectionError):  # an ICMP refusal by a client that has gone
                return
            self.commands.put((packet,), self._now, faults.lose_commands, faults.delay_commands_ms, faults.jitter_ms)

    def command(self) -> bytes | None:
        """The next command that is due, if any."""
        due = self.commands.get(self._now)
        return None if due is None else due[0][0]

    def sendto(self, data: bytes, address: tuple[str, int]) -> None:
        """Send a state, and those of before whose time has come."""
        faults, self._sent = self.faults, False
        self.states.put((data, address), self._now, faults.lose_states, faults.delay_states_ms, faults.jitter_ms)
        while (due := self.states.get(self._now)) is not None:
            packet, ahead = due
            self._sent |= ahead  # libfranka drops a state that was overtaken
            try:
                self._socket.sendto(*packet)
            except (BlockingIOError, ConnectionError):
                self.states.lost += 1

    def answered(self, within_s: float) -> bool:
        """Wait for an answer to what was just sent; true at once where nothing was sent."""
        if self._socket is None or not self._sent:
            return True
        return bool(select.select([self._socket], [], [], within_s)[0])

    def close(self) -> None:
        """Close the socket."""
        if self._socket is not None:
            self._socket.close()
            self._socket = None
