"""Addresses as texts: ``host:port`` taken apart and put together, and the one that a node is registered with."""

from __future__ import annotations

import ipaddress
import re

from micro_core._settings.secrets import hide_in_address, hide_in_text
from micro_core.errors import ConfigError

__all__ = [
    "EVERYWHERE",
    "advertised",
    "has_port",
    "is_loopback",
    "join_address",
    "port_range",
    "reach",
    "split_address",
    "split_literal",
    "split_reachable",
]

EVERYWHERE = ("", "*", "0.0.0.0", "::")
"""The hosts that stand for every interface: of IPv4 alone for ``0.0.0.0``, of both families for the others."""

_LABEL = "[A-Za-z0-9_](?:[A-Za-z0-9_-]{0,61}[A-Za-z0-9_])?"
_NAME = re.compile(rf"(?:{_LABEL}\.)*(?![0-9]+$){_LABEL}", re.ASCII)
"""Of labels, the last of which is no number: ``10.0.0.256`` and ``1`` are addresses that somebody mistyped."""
_LONGEST_NAME = 253

LOOPBACK = "127.0.0.1"

_ELSEWHERE = ("192.0.2.1", "2001:db8::1")
"""Addresses of documentation networks: connecting a UDP socket to one sends nothing, and tells the way out."""


def advertised(bound: str, advertise: str, towards: str = "") -> str:
    """Return the ``host:port`` that others shall use (docs/wire.md §1.10), as things are now: networks come and go.

    ``advertise`` (``host`` or ``host:port``, the host an IP address or a name) goes before ``bound``. An unspecified
    host is replaced by the address on the way to the IP address ``towards``, else by the one on the default route, else
    by that of any interface that is up; where there is none, by the loopback one. Raises `ConfigError`.
    """
    host, port = split_address(bound)
    if advertise:
        host, port = split_address(advertise) if has_port(advertise) else (advertise.strip("[]"), port)
        return join_address(_host(host, advertise), port)
    if host in EVERYWHERE:
        return join_address(_way_out(towards, both=host != "0.0.0.0"), port)
    return join_address(_host(host, bound), port)


def reach(bound: str) -> str:
    """Say who can reach an address."""
    host, _ = split_address(bound)
    if host in EVERYWHERE:
        if is_loopback(advertised(bound, "")):
            return "this machine only, which has no network"
        return "whoever reaches any interface of this machine"
    return "this machine only" if is_loopback(bound) else f"whoever reaches {host}"


def is_loopback(address: str) -> bool:
    """Return whether only this machine reaches ``host:port``; of names that holds for ``localhost`` alone."""
    host = address.rpartition(":")[0].strip("[]")
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


def split_address(address: str) -> tuple[str, int]:
    """Return the host, without its brackets, and the port of ``host:port``. Raises `ConfigError`."""
    host, port = _split(address)
    return host, _port(port, address)


def split_literal(address: str) -> tuple[str, int]:
    """Return host and port of an address that nobody has to ask DNS about. Raises `ConfigError` for any other."""
    try:
        host, port = split_address(address)
        if (ipaddress.ip_address(host).version == 6) is not address.startswith("["):
            raise ValueError(address)
    except (ConfigError, ValueError) as error:
        valid = "a literal IP address and a port, such as 10.0.0.5:8080 or [fd00::5]:8080"
        raise ConfigError(f"address {_shown(address)} is not valid; valid is {valid}") from error
    return host, port


def split_reachable(address: str) -> tuple[str, int]:
    """Return host and port of an address that can be connected to, an IP address or a name. Raises `ConfigError`."""
    host, port = split_address(address)
    if port == 0:
        raise ConfigError(f"address {_shown(address)} has port 0, which cannot be called")
    return _host(host, address), port


def port_range(address: str) -> tuple[str, range]:
    """Return the host and the ports of ``host:5000-6000``, or of ``host:port``. Raises `ConfigError`."""
    host, ports = _split(address)
    first, dash, last = ports.partition("-")
    low = _port(first, address)
    high = _port(last, address) if dash else low
    if high < low:
        raise ConfigError(f"{_shown(address)}: the range of ports is empty")
    return host, range(low, high + 1)


def join_address(host: str, port: int) -> str:
    """Return ``host:port``, an IPv6 host in brackets, an IPv4 one without its IPv6 prefix (RFC 4291 §2.5.5.2)."""
    if ":" not in host:
        return f"{host}:{port}"
    mapped = host[7:] if host[:7].lower() == "::ffff:" and "." in host else ""
    return f"{mapped}:{port}" if mapped else f"[{host}]:{port}"


def has_port(text: str) -> bool:
    """Return whether an address, ``host`` or ``host:port``, says a port."""
    return text.endswith("]") is False and (text.count(":") == 1 or text.startswith("["))


def _split(address: str) -> tuple[str, str]:
    host, colon, port = address.rpartition(":")
    if host.startswith("[") and host.endswith("]"):
        host = host[1:-1]
    elif ":" in host or "[" in host or "]" in host:
        raise ConfigError(f"{_shown(address)} is no address; write host:port, an IPv6 host in brackets")
    if not colon or any(letter <= " " or letter > "~" for letter in host):
        raise ConfigError(f"{_shown(address)} is no address; write host:port, for example 127.0.0.1:8080")
    return host, port


def _shown(address: str) -> str:
    """Return what an error shows of an address: some write credentials before the host."""
    return repr(hide_in_text(hide_in_address(address)))


def _port(text: str, address: str) -> int:
    if not (text.isascii() and text.isdecimal() and len(text) <= 5 and int(text) < 65536):
        raise ConfigError(f"{_shown(address)}: the port must be a number from 0 to 65535")
    return int(text)


def _host(host: str, shown: str) -> str:
    """Return a literal address as it is written shortest, or a name (RFC 1123 §2.1, and underscores)."""
    try:
        return str(ipaddress.ip_address(host))
    except ValueError as error:
        name = host.removesuffix(".")
        if len(name) <= _LONGEST_NAME and _NAME.fullmatch(name):
            return host
        valid = "an IP address or a name, such as 10.0.0.5:8080, [fd00::5]:8080 or orders.internal:8080"
        raise ConfigError(f"address {_shown(shown)} is not valid: a node's host is {valid}") from error


def _way_out(towards: str, *, both: bool) -> str:
    """Return the address by which others reach this machine, of ``both`` families or of IPv4: see `advertised`."""
    from micro_core.network_interfaces import addresses, route  # sockets, which a client that only calls asks for later

    ways = [route(elsewhere) for elsewhere in (towards, *_ELSEWHERE) if elsewhere] + addresses()
    return next((way for way in ways if way and (both or ":" not in way) and not is_loopback(f"[{way}]:0")), LOOPBACK)
