"""Which nodes of which senders are believed in: multicast DNS knows no signatures, and what can be refused is refused.

Anybody on the network may answer. So a sender is believed about its own network alone, and gets a share of the work
that reading costs; docs/security.md says what that can promise, and what it cannot.
"""

from __future__ import annotations

import ipaddress
from collections.abc import Callable, Sequence

from micro_core import ConfigError
from micro_core.address import is_loopback
from micro_registry_mdns.net.interfaces import Locality, networks

__all__ = ["Budget", "Door", "Network", "network"]

Network = ipaddress.IPv4Network | ipaddress.IPv6Network

_METADATA = ipaddress.ip_address("169.254.169.254")
"""What clouds answer questions about credentials at."""
_TRANSLATED = ipaddress.ip_network("64:ff9b::/96")
_KNOWN_FOR = 5.0


def network(text: str) -> Network:
    """Return the network that an option names. Raises `ConfigError`."""
    try:
        return ipaddress.ip_network(text)
    except ValueError as error:
        raise ConfigError(f"networks: {text!r} is no network; write 10.0.0.0/8 or fd00::/8, for example") from error


class Door:
    """Judges what senders say of nodes. ``allowed`` are networks of which every sender may tell addresses."""

    def __init__(
        self,
        locality: Locality,
        allowed: Sequence[Network] = (),
        *,
        time: Callable[[], float],
        own: Callable[[], Sequence[Network]] = networks,
    ) -> None:
        self._locality = locality
        self._allowed = tuple(allowed)
        self._time = time
        self._own = own
        self._known: tuple[float, Sequence[Network]] = (-_KNOWN_FOR, ())

    def refuses(self, sender: str, address: str) -> str:
        """Return why a node at ``address`` is not believed in that ``sender`` tells of; empty where it is.

        ``address`` is a node's: ``host:port``, or whatever its transport reads, which only that can judge.
        """
        is_local = self._locality.is_local(sender)
        if is_loopback(address):
            return "" if is_local else "loopback of another host"
        try:
            host = _plain(ipaddress.ip_address(address.rpartition(":")[0].strip("[]")))
        except ValueError:
            return ""
        if host.is_loopback:
            return "" if is_local else "loopback of another host"
        if host.is_unspecified or host.is_multicast or host.is_reserved or host in _nowhere(host):
            return "an address at which nobody can be called"
        if host == _METADATA:
            return "an address of cloud metadata"
        if is_local or str(host) == sender or any(host in one for one in self._allowed if one.version == host.version):
            return ""
        if host.is_link_local and not ipaddress.ip_address(sender).is_link_local:
            return "a link-local address"
        near = [one for one in self._networks() if one.version == host.version]
        shared = [one for one in near if host.version == 6 or ipaddress.ip_address(sender) in one]
        return "" if any(host in one for one in shared) else "an address that is not on the sender's network"

    def _networks(self) -> Sequence[Network]:
        now = self._time()
        if now - self._known[0] >= _KNOWN_FOR:
            self._known = now, self._own()
        return self._known[1]


def _plain(
    host: ipaddress.IPv4Address | ipaddress.IPv6Address,
) -> ipaddress.IPv4Address | ipaddress.IPv6Address:
    """Return the IPv4 address in an IPv6 one, where that is what it stands for."""
    if host.version == 4:
        return host
    if host in _TRANSLATED:
        return ipaddress.IPv4Address(int(host) & 0xFFFFFFFF)
    return host.ipv4_mapped or host


def _nowhere(host: ipaddress.IPv4Address | ipaddress.IPv6Address) -> Network:
    return ipaddress.ip_network("0.0.0.0/8" if host.version == 4 else "::/128")


class Budget:
    """What reading may cost: so many bytes of descriptions a second, saved up to a multiple of it.

    For each sender and for all together; this machine's own processes are not counted. Times are of any one clock.
    """

    _EACH, _ALL = 1024 * 1024, 4 * 1024 * 1024
    _SAVED_SECONDS = 8.0
    _SENDERS = 4_096

    def __init__(self, locality: Locality) -> None:
        self._locality = locality
        self._left: dict[str, tuple[float, float]] = {}
        """For each sender, and "" for all together, what is left and when that was so."""

    def left(self, sender: str, now: float, most: int) -> int:
        """Return how many bytes may be read for ``sender`` at once, at most ``most``."""
        if self._locality.is_local(sender):
            return most
        return int(max(0, min(most, self._now(sender, self._EACH, now), self._now("", self._ALL, now))))

    def spend(self, sender: str, now: float, size: int) -> None:
        """Count ``size`` bytes that were read."""
        if size <= 0 or self._locality.is_local(sender):
            return
        if sender not in self._left and len(self._left) >= self._SENDERS:
            del self._left[next(iter(self._left))]  # the one that has been here longest; all together bound it still
        for who, rate in ((sender, self._EACH), ("", self._ALL)):
            self._left[who] = self._now(who, rate, now) - size, now

    def _now(self, who: str, rate: int, now: float) -> float:
        left, then = self._left.get(who, (rate * self._SAVED_SECONDS, now))
        return min(left + (now - then) * rate, rate * self._SAVED_SECONDS)
