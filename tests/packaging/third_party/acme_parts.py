"""A good plugin of every kind, as far as the plugin host is concerned: its parts do nothing."""

from collections.abc import Mapping, Sequence
from typing import Any

from micro_core import Broker, Caller, Codec, Registry, Selector, Server, Transport, build, hookimpl


def complete(contract: Any) -> Any:
    return type(
        f"Acme{contract.__name__}", (contract,), {"name": "acme", **dict.fromkeys(contract.__abstractmethods__)}
    )


class AcmeRegistry(complete(Registry)):  # type: ignore[misc]
    def __init__(self, *, address: Sequence[str] = (), path: str = "", ttl: float = 1.0, token: str = "") -> None:
        self.text = f"AcmeRegistry {','.join(address)} {path} ttl={ttl}"

    def __repr__(self) -> str:
        return self.text


@hookimpl
def make_registry(address: Sequence[str], path: str, options: Mapping[str, str]) -> Any:
    return build(AcmeRegistry, options, address=address, path=path)


@hookimpl
def make_selector() -> Any:
    return complete(Selector)()


@hookimpl
def make_transport(pool_size: int) -> Any:
    return complete(Transport)()


@hookimpl
def make_codec() -> Any:
    return [complete(Codec)(), complete(Codec)()]


@hookimpl
def make_broker(registry: Any) -> Any:
    return complete(Broker)()


@hookimpl
def make_client(registry: Any, codecs: Any, defaults: Any) -> Any:
    return complete(Caller)()


@hookimpl
def make_server(name: str, transport: Any) -> Any:
    return complete(Server)()
