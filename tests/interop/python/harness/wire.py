"""A wire between two hosts that can be long, lossy, narrow, cut or half dead: what loopback hides.

`wire_between` lays one; this file is also the program that is the wire. It holds the ends of two tap devices, one in
each host's namespace, and carries Ethernet frames between them, multicast too. No kernel module but tun is needed.
"""

from __future__ import annotations

import os
import random
import select
import struct
import sys
import time
from collections import deque
from contextlib import ExitStack
from pathlib import Path

__all__ = ["Wire", "wire_between"]

_TUNSETIFF, _TAP_WITHOUT_HEADER = 0x400454CA, 0x1002
_IPV4, _TCP = b"\x08\x00", 6
_LARGEST = 65_536


class Cable:
    """The wire itself: what it was told, and the frames that are on their way."""

    def __init__(self, ends: tuple[int, int]) -> None:
        self._ends = ends
        self._on_the_way: deque[tuple[float, int, bytes]] = deque()
        self._free_at = dict.fromkeys(ends, 0.0)
        self.delay, self.loss, self.rate = 0.0, 0.0, 0.0
        self.is_cut = False
        self.dropped: set[int] = set()

    def run(self) -> None:
        """Carry frames until standard input ends."""
        while True:
            wait = max(0.0, self._on_the_way[0][0] - time.monotonic()) if self._on_the_way else None
            ready, _, _ = select.select([*self._ends, 0], [], [], wait)
            if 0 in ready:
                line = sys.stdin.readline()
                if not line:
                    return
                self.obey(*line.split())
                print("done", flush=True)
            for end in self._ends:
                if end in ready:
                    self._take(end)
            self._deliver()

    def obey(self, word: str, value: str = "0") -> None:
        """Change what the wire does to frames from now on."""
        if word in ("delay", "loss", "rate"):
            setattr(self, word, float(value))
        elif word == "drop":
            self.dropped.add(int(value))
        elif word == "pass":
            self.dropped.clear()
        else:
            self.is_cut = word == "cut"

    def _take(self, end: int) -> None:
        try:
            frame = os.read(end, _LARGEST)
        except OSError:
            return  # the other side of the device is down
        if self.is_cut or random.random() < self.loss or self.dropped.intersection(_tcp_ports(frame)):
            return
        now = time.monotonic()
        self._free_at[end] = max(self._free_at[end], now) + (len(frame) / self.rate if self.rate else 0.0)
        other = self._ends[1 - self._ends.index(end)]
        self._on_the_way.append((self._free_at[end] + self.delay, other, frame))

    def _deliver(self) -> None:
        while self._on_the_way and self._on_the_way[0][0] <= time.monotonic():
            _, end, frame = self._on_the_way.popleft()
            try:
                os.write(end, frame)
            except OSError:
                pass  # the host's device is down


def _tcp_ports(frame: bytes) -> tuple[int, ...]:
    """Return the ports of a TCP segment over IPv4, none of anything else."""
    if frame[12:14] != _IPV4 or frame[23] != _TCP:
        return ()
    return struct.unpack_from("!HH", frame, 14 + (frame[14] & 15) * 4)


def _tap(name: str) -> int:
    import fcntl

    end = os.open("/dev/net/tun", os.O_RDWR | os.O_NONBLOCK)
    fcntl.ioctl(end, _TUNSETIFF, struct.pack("16sH22x", name.encode(), _TAP_WITHOUT_HEADER))
    return end


def main() -> None:
    """Be the wire between two tap devices that are named on the command line."""
    cable = Cable((_tap(sys.argv[1]), _tap(sys.argv[2])))
    print("ready", flush=True)
    cable.run()


if __name__ == "__main__":
    main()
    sys.exit()

from harness.network import Network, Program  # noqa: E402 - the wire itself runs without its neighbours


class Wire:
    """A wire that is laid, its two hosts, and what a test can do to it. Each change holds when its method returns."""

    def __init__(self, program: Program, near: Network, far: Network) -> None:
        self._program = program
        self.near = near
        """The host with the address 10.77.0.1."""
        self.far = far
        """The host with the address 10.77.0.2."""

    def delay(self, seconds: float) -> None:
        """Have every frame take that long, in either direction."""
        self._tell(f"delay {seconds}")

    def lose(self, share: float) -> None:
        """Lose a share of the frames, from 0 to 1."""
        self._tell(f"loss {share}")

    def narrow(self, rate: float) -> None:
        """Carry that many bytes a second in each direction, 0 for any number."""
        self._tell(f"rate {rate}")

    def cut(self) -> None:
        """Lose everything, silently."""
        self._tell("cut")

    def heal(self) -> None:
        """Carry again after a cut."""
        self._tell("heal")

    def drop(self, port: int) -> None:
        """Lose what goes to or comes from one TCP port: its connections are half-open from now on."""
        self._tell(f"drop {port}")

    def drop_nothing(self) -> None:
        """Carry every port again."""
        self._tell("pass")

    def _tell(self, command: str) -> None:
        self._program.say(command)
        assert self._program.line() == "done"


def wire_between(logs: Path, stack: ExitStack) -> Wire:
    """Return a wire between two hosts of its own, which multicast passes too."""
    outside = Network(logs, stack, "ip link set lo up")
    program = outside.start(sys.executable, __file__, "near0", "far0")
    assert program.line() == "ready"
    hosts = []
    for number, device in enumerate(("near0", "far0"), start=1):
        host = Network(logs, stack, "ip link set lo up", inside=outside)
        outside.run(f"ip link set {device} netns {host.pid}")
        host.run(f"ip addr add 10.77.0.{number}/24 dev {device}; ip link set {device} up")
        host.run(f"ip route add default dev {device}")
        hosts.append(host)
    return Wire(program, *hosts)
