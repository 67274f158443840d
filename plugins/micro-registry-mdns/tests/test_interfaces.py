"""Where to speak, and who is local."""

from micro_registry_mdns.net.interfaces import Locality, addresses


def test_loopback_is_an_interface() -> None:
    assert "127.0.0.1" in addresses()


def test_own_addresses_are_local_and_others_are_not() -> None:
    locality = Locality()
    assert all(locality.is_local(address) for address in [*addresses(), "127.0.0.53", "0.0.0.0"])
    assert not locality.is_local("198.51.100.7")
    assert not locality.is_local("no address")
