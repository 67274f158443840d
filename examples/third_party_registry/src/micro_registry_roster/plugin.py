"""The entry point ``roster`` of the group ``micro.registry``."""

from collections.abc import Mapping, Sequence

from micro_core import ConfigError, Registry, Tls, build, hookimpl

from .registry import RosterRegistry

__all__ = ["make_registry"]


@hookimpl
def make_registry(address: Sequence[str], path: str, options: Mapping[str, str], tls: Tls) -> Registry:
    """Return the registry that ``roster://host:port/space?secret=…`` names.

    ``address`` is ``("host:port",)``, ``path`` is ``/space``, ``options`` is ``{"secret": "…"}``; ``tls`` is what the
    program's settings say, and options ``tls_…`` go over it.
    """
    if len(address) != 1:
        raise ConfigError("roster needs the one address of its server: roster://127.0.0.1:7400")
    tls, options = tls.overlaid(options)
    if not tls.calls:
        tls.check_clear_text(address[0], "registry roster at")
    return build(RosterRegistry, options, address=address[0], space=path.strip("/"), tls=tls)
