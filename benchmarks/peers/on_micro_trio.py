"""The same on trio, where everything takes the portable path."""

from typing import Any

from .on_micro import caller, service, streamer

__all__ = ["BACKEND", "caller", "serve", "streamer"]

BACKEND: tuple[str, dict[str, Any]] = ("trio", {})


def serve() -> None:
    service.run(argv=[], backend="trio")
