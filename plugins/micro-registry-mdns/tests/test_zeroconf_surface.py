"""What we use of python-zeroconf beyond its documentation: a release that takes it away fails here, by name.

The dependency has an upper bound for the same reason (pyproject.toml).
"""

import pytest
from zeroconf import IPVersion, ServiceInfo, Zeroconf
from zeroconf.asyncio import AsyncZeroconf


@pytest.fixture
def anyio_backend() -> str:
    return "asyncio"  # the engine's own, in the registry's thread


async def test_zeroconf_still_has_what_the_responder_uses(anyio_backend: str) -> None:
    engine = Zeroconf(interfaces=["127.0.0.1"], ip_version=IPVersion.V4Only)
    try:
        await engine.async_wait_for_start()
        used = {
            engine: ("async_register_service", "async_send", "async_update_service", "generate_service_broadcast"),
            engine.registry: ("async_add", "async_remove"),
            ServiceInfo: ("__init__",),
        }
        missing = [f"{owner!r}.{name}" for owner, names in used.items() for name in names if not hasattr(owner, name)]
        assert not missing, f"python-zeroconf has no {missing} any more: see micro_registry_mdns/peer/bonjour.py"
        transports = (*engine.engine.readers, *engine.engine.senders)
        assert transports, "python-zeroconf shows none of its sockets: they cannot be confined to their interfaces"
        assert all(hasattr(transport, "sock") for transport in transports)
    finally:
        await AsyncZeroconf(zc=engine).async_close()
