"""Which entry point a name means, and what the errors say; nothing is imported for it."""

import pytest

from micro_core import PluginError, PluginNotFound
from micro_core._plugins.entry_points import Installed, PluginQuery, select


def offered(name: str, distribution: str = "micro-core", version: str = "0.1.0", kind: str = "registry") -> Installed:
    return Installed(kind=kind, name=name, distribution=distribution, version=version, value="m", origin="/site")


def wanted(name: str, distribution: str = "", kind: str = "registry") -> PluginQuery:
    return PluginQuery(kind=kind, name=name, distribution=distribution, source="variable MICRO_REGISTRY")


MEMORY, MDNS = offered("memory"), offered("mdns", "micro-registry-mdns")
OTHER_MDNS = offered("mdns", "Other_Mdns", "2.0")


def test_unknown_name_is_told_with_the_installed_ones_a_near_miss_and_the_source() -> None:
    with pytest.raises(PluginNotFound) as error:
        select(wanted("mdsn"), [MDNS, MEMORY, offered("http", kind="transport")], (), ())

    assert error.value.detail == (
        "registry 'mdsn' not found; installed: mdns, memory; did you mean 'mdns'? (from variable MICRO_REGISTRY)"
    )


def test_published_plugin_that_is_not_installed_is_told_with_how_to_install_it() -> None:
    with pytest.raises(PluginNotFound, match="installed: memory; try: pip install micro-registry-mdns"):
        select(wanted("mdns"), [MEMORY], (), ())
    with pytest.raises(PluginNotFound, match="did you mean 'mdns'\\?; try: pip install micro-registry-mdns"):
        select(wanted("mdsn"), [MEMORY], (), ())


@pytest.mark.parametrize("name", ["etcd", "http", "evil-package", "micro-registry-mdns"])
def test_nothing_else_is_proposed_to_be_installed(name: str) -> None:
    with pytest.raises(PluginNotFound) as error:
        select(wanted(name), [MEMORY], (), ())

    assert "pip install" not in error.value.detail


def test_two_distributions_of_one_name_are_named_and_one_can_be_chosen() -> None:
    with pytest.raises(PluginError) as error:
        select(wanted("mdns"), [MDNS, OTHER_MDNS], (), ())

    assert "Other_Mdns 2.0 and micro-registry-mdns 0.1.0" in error.value.detail
    assert "mdns@Other_Mdns or mdns@micro-registry-mdns" in error.value.detail
    assert select(wanted("mdns", "other.mdns"), [MDNS, OTHER_MDNS], (), ()) is OTHER_MDNS


def test_built_in_cannot_be_shadowed() -> None:
    with pytest.raises(PluginError, match=r"micro-core 0\.1\.0 and stranger 1\.0"):
        select(wanted("memory"), [MEMORY, offered("memory", "stranger", "1.0")], (), ())


def test_distribution_that_does_not_offer_the_name_is_told_with_those_that_do() -> None:
    with pytest.raises(
        PluginNotFound, match=r"'mdns' of distribution 'x' not found; .* by micro-registry-mdns 0\.1\.0"
    ):
        select(wanted("mdns", "x"), [MDNS, MEMORY], (), ())


def test_blocked_distribution_is_kept_out_and_told() -> None:
    assert select(wanted("mdns"), [MDNS, OTHER_MDNS], (), ("other-mdns",)) is MDNS
    with pytest.raises(PluginError, match=r"Other_Mdns 2\.0, which MICRO_PLUGINS_BLOCK .plugins_block. names"):
        select(wanted("mdns", "Other_Mdns"), [MDNS, OTHER_MDNS], (), ("other-mdns",))


def test_only_allowed_distributions_and_built_ins_are_used() -> None:
    assert select(wanted("mdns"), [MDNS, OTHER_MDNS], ("MICRO_registry.mdns",), ()) is MDNS
    assert select(wanted("memory"), [MEMORY], ("micro-registry-mdns",), ()) is MEMORY
    with pytest.raises(PluginError, match=r"MICRO_PLUGINS_ALLOW .plugins_allow. omits"):
        select(wanted("mdns"), [MDNS], ("something-else",), ())


def test_distribution_that_offers_a_name_twice_is_told() -> None:
    with pytest.raises(PluginError, match=r"offered twice by Other_Mdns 2\.0"):
        select(wanted("mdns"), [OTHER_MDNS, OTHER_MDNS], (), ())
