"""Settings on their way to the parts: what each hook gets, and that nothing that somebody wrote is lost on the way."""

from __future__ import annotations

from collections.abc import Collection
from typing import Any

from micro_core._plugins.arguments import ARGUMENTS
from micro_core._plugins.host import PluginHost
from micro_core._settings.secrets import hide_in_address
from micro_core.address import is_loopback
from micro_core.config import Part, Settings
from micro_core.errors import ConfigError
from micro_core.tls import Tls

__all__ = ["arguments_from", "check_clear_text", "check_reached"]


def arguments_from(settings: Settings, kind: str, tls: Tls) -> dict[str, Any]:
    """Return the arguments of a kind's hook that settings say; ``tls`` stands for the settings of that name."""
    return {
        name: tls if name == "tls" else getattr(settings, argument.settings[0])
        for name, argument in ARGUMENTS.get(kind, {}).items()
        if argument.settings
    }


def check_clear_text(host: PluginHost, part: Part, tls: Tls) -> None:
    """Raise `ConfigError` where a part that knows nothing of TLS would speak beyond this machine, and must not.

    A part that takes ``tls`` decides by itself, with `Tls.check_clear_text`.
    """
    if not tls.require:
        return
    beyond = [address for address in part.addresses if not is_loopback(address.rpartition("@")[2])]
    if beyond and not host.takes(part, "tls"):
        raise ConfigError(
            f"{host.title(part)} would speak clear text with {hide_in_address(beyond[0])}, which require_tls forbids "
            "outside this machine, and it takes no TLS settings: choose another one"
        )


def check_reached(host: PluginHost, settings: Settings, instances: Collection[str]) -> None:
    """Raise `ConfigError` for a setting that somebody wrote and that none of the parts takes that it is for.

    ``instances`` are the kinds whose part was made by the program, which decides what it takes.
    """
    for name, source in settings.sources.items():
        takers = [
            (getattr(settings, kind), argument)
            for kind, arguments in ARGUMENTS.items()
            for argument, one in arguments.items()
            if name in one.settings
        ]
        if not takers or any(part.kind in instances for part, _ in takers):
            continue
        there = [(part, argument) for part, argument in takers if host.offers(part.kind, part.name)]
        if not any(host.takes(part, argument) for part, argument in there):
            deaf = " and ".join(host.title(part) for part, _ in there)
            raise ConfigError(
                f"{name} (from {source}) would be lost, for it is no setting of {deaf}; "
                "leave it out, or choose a part that takes it"
            )
