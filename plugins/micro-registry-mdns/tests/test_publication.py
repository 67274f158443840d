"""What cannot be published is refused with the reason."""

import hashlib
from collections.abc import Mapping

import pytest

from micro_core import ConfigError, Node, Record
from micro_registry_mdns.peer.publication import Publication, publications

BOTH = ("dns-sd", "gomicro")
UUID = "0d1f5a3e-7c0b-4c43-9a55-0c7f5b1f2bc1"


def publish(
    name: str = "greeter",
    version: str = "1",
    id_: str = "greeter-1",
    address: str = "10.0.0.5:80",
    metadata: Mapping[str, str] = {},
    dialects: tuple[str, ...] = BOTH,
) -> Publication:
    node = Node(id=id_, address=address, metadata=metadata)
    [publication] = publications(Record(name=name, version=version, nodes=(node,)), dialects, "devbox.")
    return publication


def noise(size: int) -> str:
    return "".join(hashlib.sha256(number.to_bytes(4)).hexdigest() for number in range(size // 64))


def test_a_node_id_of_63_bytes_can_be_published() -> None:
    service = "s" * 26
    assert publish(name=service, id_=f"{service}-{UUID}").label == f"{service}-{UUID}"


def test_a_node_id_of_64_bytes_is_refused_with_the_limit() -> None:
    service = "s" * 27
    with pytest.raises(ConfigError, match=r"node id .* 64 bytes.* 1 to 63"):
        publish(name=service, id_=f"{service}-{UUID}")


def test_every_part_between_dots_has_a_limit_of_its_own() -> None:
    service = "go.micro.srv.a-rather-long-name-here"
    assert publish(name=service, id_=f"{service}-{UUID}").label.startswith("go-micro-srv-")


@pytest.mark.parametrize(
    ("changed", "reason"),
    [
        ({"version": ""}, "version of service 'greeter' is empty"),
        ({"name": ""}, "name is empty"),
        ({"id_": ""}, "id of a node of service 'greeter' is empty"),
        ({"id_": "a\nb"}, "printable"),
        ({"id_": "a..b"}, "has 0 bytes"),
        ({"name": "a" * 64}, "service name .* 64 bytes"),
        ({"name": ".".join("abcd" * 15 for _ in range(4)), "id_": "x" * 40}, "255 bytes"),
        ({"address": ""}, "address of node .* is empty"),
        ({"address": "0.0.0.0:80"}, "nobody can call"),
        ({"address": "10.0.0.5:0"}, "nobody can call"),
        ({"metadata": {"a": "\ud800"}}, "half a character"),
        ({"metadata": {"a": noise(64_000)}}, "65535|65507"),
    ],
)
def test_what_cannot_be_published_is_refused(changed: dict[str, str], reason: str) -> None:
    with pytest.raises(ConfigError, match=reason):
        publish(**changed)  # type: ignore[arg-type]


def test_a_description_too_large_for_dnssd_is_published_as_go_micro_does() -> None:
    publication = publish(metadata={"a": noise(20_000)})
    assert publication.label == ""
    assert publication.entry is not None


def test_a_description_too_large_for_the_only_dialect_is_refused() -> None:
    with pytest.raises(ConfigError, match="8000"):
        publish(metadata={"a": noise(20_000)}, dialects=("dns-sd",))


def test_an_address_that_no_record_holds_is_told_over_dnssd_alone() -> None:
    publication = publish(address="orders.example:80")
    assert (publication.entry, publication.address, publication.port) == (None, "0.0.0.0", 1)
    assert publish(address="localhost:80").address == "127.0.0.1"  # told to this machine alone


def test_an_address_that_the_only_dialect_does_not_hold_is_refused() -> None:
    with pytest.raises(ConfigError, match="switch the dialect dns-sd on"):
        publish(address="orders.example:80", dialects=("gomicro",))
