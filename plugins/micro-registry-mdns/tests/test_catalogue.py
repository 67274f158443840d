"""What is known of the network, and what changes."""

from dataclasses import replace

from micro_core import Change, ChangeKind, Node, Record
from micro_registry_mdns.peer.catalogue import Catalogue
from micro_registry_mdns.wire.sighting import Sighting


def record(version: str = "1", port: int = 8080, service: str = "greeter", id_: str = "n1") -> Record:
    return Record(name=service, version=version, nodes=(Node(id=id_, address=f"10.0.0.5:{port}"),))


def seen(what: Record, dialect: str = "gomicro", ttl: float = 120) -> Sighting:
    return Sighting(dialect=dialect, record=what, ttl=ttl)


def test_the_first_sighting_creates_and_the_same_again_changes_nothing() -> None:
    catalogue = Catalogue()
    assert list(catalogue.add(seen(record()), 0)) == [Change(kind=ChangeKind.CREATE, record=record())]
    assert list(catalogue.add(seen(record()), 1)) == []
    assert catalogue.records("greeter") == [record()]


def test_a_node_seen_in_both_dialects_is_one_node() -> None:
    catalogue = Catalogue()
    catalogue.add(seen(record()), 0)
    assert list(catalogue.add(seen(record(), "dns-sd"), 0)) == []
    assert catalogue.records("greeter") == [record()]


def test_a_changed_address_is_an_update_once_whichever_dialect_says_it_first() -> None:
    catalogue = Catalogue()
    catalogue.add(seen(record()), 0)
    catalogue.add(seen(record(), "dns-sd"), 0)
    changes = [
        *catalogue.add(seen(record(port=9090), "dns-sd"), 1),
        *catalogue.add(seen(record()), 1),  # the other dialect's repetition of the old
        *catalogue.add(seen(record(port=9090)), 1),
    ]
    assert changes == [Change(kind=ChangeKind.UPDATE, record=record(port=9090))]
    assert catalogue.records("greeter") == [record(port=9090)]


def test_a_changed_version_deletes_the_node_from_the_old_record() -> None:
    catalogue = Catalogue()
    catalogue.add(seen(record("1")), 0)
    assert [(change.kind, change.record.version) for change in catalogue.add(seen(record("2")), 1)] == [
        (ChangeKind.DELETE, "1"),
        (ChangeKind.CREATE, "2"),
    ]


def test_versions_are_records_of_their_own() -> None:
    catalogue = Catalogue()
    for what in (record("2", id_="b"), record("1", id_="a"), record("2", id_="c")):
        catalogue.add(seen(what), 0)
    assert [(known.version, [node.id for node in known.nodes]) for known in catalogue.records("greeter")] == [
        ("1", ["a"]),
        ("2", ["b", "c"]),
    ]


def test_a_goodbye_in_one_dialect_ends_the_node() -> None:
    catalogue = Catalogue()
    catalogue.add(seen(record()), 0)
    catalogue.add(seen(record(), "dns-sd"), 0)
    assert [change.kind for change in catalogue.add(seen(record(), ttl=0), 1)] == [ChangeKind.DELETE]
    assert list(catalogue.add(seen(record(), "dns-sd", ttl=0), 1)) == []
    assert catalogue.records("greeter") == []


def test_silence_ends_a_node_only_when_both_dialects_are_silent() -> None:
    catalogue = Catalogue()
    catalogue.add(seen(record()), 0)
    catalogue.add(seen(record(), "dns-sd"), 50)
    assert list(catalogue.expire(130)) == []
    assert [change.kind for change in catalogue.expire(170)] == [ChangeKind.DELETE]


def test_a_renewed_node_does_not_expire() -> None:
    catalogue = Catalogue()
    catalogue.add(seen(record()), 0)
    catalogue.add(seen(record()), 100)
    assert list(catalogue.expire(219)) == []


def test_the_number_of_nodes_is_bounded() -> None:
    catalogue = Catalogue(limit=2)
    for number in range(5):
        catalogue.add(seen(record(service=f"s{number}")), 0)
    assert catalogue.services_since(0) == {"s0", "s1"}
    catalogue.remove("s0", "n1")
    catalogue.add(seen(record(service="s9")), 0)
    assert catalogue.services_since(0) == {"s1", "s9"}


def test_what_was_heard_since_a_moment_is_told_from_what_is_older() -> None:
    catalogue = Catalogue()
    catalogue.add(seen(record(service="old")), 0)
    catalogue.add(seen(record(service="own"), "own", float("inf")), 0)
    catalogue.add(seen(record(service="new")), 10)
    assert catalogue.services_since(5) == {"own", "new"}


def test_the_size_of_all_descriptions_is_bounded() -> None:
    catalogue = Catalogue(size_limit=100)
    for number in range(5):
        catalogue.add(replace(seen(record(service=f"s{number}")), size=40), 0)
    assert catalogue.services_since(0) == {"s0", "s1"}
    catalogue.remove("s0", "n1")
    catalogue.add(replace(seen(record(service="s9")), size=40), 0)
    assert catalogue.services_since(0) == {"s1", "s9"}
