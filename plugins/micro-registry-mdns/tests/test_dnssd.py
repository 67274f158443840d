"""The DNS-SD dialect of docs/protocol.md §6."""

import hashlib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from micro_registry_mdns.wire import dns, dnssd, txt

DESCRIPTION = txt.Description(service="greeter", version="latest", metadata={"micro": "1"})
NAME = "greeter-1._micro._tcp.local."
HOST = "greeter-1.local."


def answers(text: bytes, *, ttl: int = 120, address: str = "10.0.0.5") -> tuple[dns.ResourceRecord, ...]:
    return (
        dns.ResourceRecord(dnssd.SERVICE_TYPE, dns.PTR, ttl, NAME),
        dns.ResourceRecord(NAME, dns.SRV, ttl, (0, 0, 8080, HOST)),
        dns.ResourceRecord(NAME, dns.TXT, ttl, text),
        dns.ResourceRecord(HOST, dns.A, ttl, address),
    )


def response(*records: dns.ResourceRecord) -> dns.Message:
    return dns.Message(flags=0x8400, answers=records)


TEXT = dnssd.text("greeter-1", DESCRIPTION)


@pytest.mark.parametrize(
    ("service", "id_", "expected"),
    [
        ("greeter", "greeter-1", "greeter-1"),
        ("greeter", "mailer-1", "mailer-1-" + hashlib.sha256(b"greeter\0mailer-1").hexdigest()[:16]),
        ("a.b", "a.b-1", "a-b-1-" + hashlib.sha256(b"a.b\0a.b-1").hexdigest()[:16]),
        ("a", "ä" * 40, "ä" * 23 + "-" + hashlib.sha256(b"a\0" + "ä".encode() * 40).hexdigest()[:16]),
    ],
)
def test_a_label_is_the_node_id_where_that_is_valid_and_unique(service: str, id_: str, expected: str) -> None:
    assert dnssd.label(service, id_) == expected
    assert len(expected.encode()) <= 63


@pytest.mark.parametrize(
    ("service", "expected"),
    [
        ("greeter", "greeter._sub._micro._tcp.local."),
        ("x" * 64, f"{'x' * 46}-{hashlib.sha256(b'x' * 64).hexdigest()[:16]}._sub._micro._tcp.local."),
        ("go.micro.srv", f"go-micro-srv-{hashlib.sha256(b'go.micro.srv').hexdigest()[:16]}._sub._micro._tcp.local."),
    ],
)
def test_the_nodes_of_a_service_are_asked_for_by_a_subtype(service: str, expected: str) -> None:
    assert dnssd.subtype(service) == expected
    assert dns.decode(dnssd.query(7, service)).questions == (dns.Question(expected, dns.PTR),)
    assert dns.decode(dnssd.query(7)).questions == (dns.Question(dnssd.SERVICE_TYPE, dns.PTR),)


@pytest.mark.parametrize("address", ["10.0.0.5", "fd00::5"])
def test_an_answer_for_one_service_holds_a_whole_node(address: str) -> None:
    question = dns.Question(dnssd.subtype("greeter"), dns.PTR)
    message = dns.decode(dnssd.answer(question, 7, "greeter-1", address, 8080, TEXT))
    assert (message.id, message.questions) == (7, (question,))
    [sighting] = dnssd.Reader().read(message, 0)
    assert sighting.record.name == "greeter"
    assert sighting.record.nodes[0].id == "greeter-1"
    assert sighting.record.nodes[0].address.endswith(":8080")


def test_the_largest_description_fits_into_an_answer() -> None:
    question = dns.Question(dnssd.subtype("a" * 63), dns.PTR)
    assert dnssd.answer(question, 7, "b" * 63, "fd00::5", 8080, bytes(dnssd.MAX_TEXT))


def test_the_text_begins_with_what_people_read() -> None:
    pieces = txt.from_strings(TEXT)
    assert pieces[:4] == [b"txtvers=1", b"id=greeter-1", b"service=greeter", b"version=latest"]
    assert txt.inflate(pieces[4].removeprefix(b"d0=")) == DESCRIPTION


def test_a_large_description_is_cut_into_numbered_pieces() -> None:
    noise = "".join(hashlib.sha256(bytes([n])).hexdigest() for n in range(120))
    large = txt.Description(service="greeter", version="1", metadata={"noise": noise})
    [sighting] = dnssd.Reader().read(response(*answers(dnssd.text("greeter-1", large))), 0)
    assert sighting.record.nodes[0].metadata == {"noise": noise}
    assert b"d11=" in dnssd.text("greeter-1", large)


def test_a_node_is_read_from_one_packet() -> None:
    [sighting] = dnssd.Reader().read(response(*answers(TEXT)), 0)
    assert (sighting.key, sighting.ttl) == (("greeter", "greeter-1"), 120)
    assert sighting.record.nodes[0].address == "10.0.0.5:8080"


@given(st.permutations(range(4)))
def test_a_node_is_read_from_packets_in_any_order(order: list[int]) -> None:
    reader, records = dnssd.Reader(), answers(TEXT)
    found = [sighting for at in order[:3] for sighting in reader.read(response(records[at]), 0.1)]
    found += reader.read(response(records[order[3]]), 0.2)
    hosts_first = order.index(3) < order.index(1)
    assert hosts_first or found[-1].record.nodes[0].address == "10.0.0.5:8080"


def test_records_that_come_a_second_apart_are_not_joined() -> None:
    reader, (pointer, service, text, address) = dnssd.Reader(), answers(TEXT)
    assert list(reader.read(response(pointer, service, address), 0)) == []
    assert list(reader.read(response(text), 2)) == []


def test_several_nodes_in_one_packet_are_all_read() -> None:
    other = [
        dns.ResourceRecord("x._micro._tcp.local.", dns.SRV, 120, (0, 0, 8081, "x.local.")),
        dns.ResourceRecord("x._micro._tcp.local.", dns.TXT, 120, dnssd.text("x", DESCRIPTION)),
        dns.ResourceRecord("x.local.", dns.A, 120, "10.0.0.6"),
    ]
    found = dnssd.Reader().read(response(*answers(TEXT), *other), 0)
    assert sorted(sighting.record.nodes[0].id for sighting in found) == ["greeter-1", "x"]


def test_a_changed_text_is_a_new_sighting() -> None:
    reader = dnssd.Reader()
    list(reader.read(response(*answers(TEXT)), 0))
    changed = dnssd.text("greeter-1", txt.Description(service="greeter", version="2"))
    [sighting] = reader.read(response(*answers(changed)), 5)
    assert sighting.record.version == "2"


@pytest.mark.parametrize("at", [0, 1, 2])
def test_any_record_with_ttl_0_is_a_goodbye(at: int) -> None:
    reader = dnssd.Reader()
    list(reader.read(response(*answers(TEXT)), 0))
    [sighting] = reader.read(response(answers(TEXT, ttl=0)[at]), 5)
    assert (sighting.key, sighting.ttl) == (("greeter", "greeter-1"), 0)


def test_the_goodbye_of_a_stranger_is_nothing() -> None:
    assert list(dnssd.Reader().read(response(*answers(TEXT, ttl=0)), 0)) == []


def test_the_short_ttl_of_an_answer_to_our_own_question_is_not_the_lifetime() -> None:
    question = (dns.Question(dnssd.SERVICE_TYPE, dns.PTR),)
    message = dns.Message(flags=0x8400, questions=question, answers=answers(TEXT, ttl=10))
    assert [sighting.ttl for sighting in dnssd.Reader().read(message, 0)] == [120]


@pytest.mark.parametrize(
    "text",
    [
        txt.strings([b"txtvers=2", *txt.from_strings(TEXT)[1:]]),
        txt.strings(txt.from_strings(TEXT)[:4]),
        txt.strings([b"txtvers=1", *txt.from_strings(TEXT)[2:]]),
        txt.strings([*txt.from_strings(TEXT), b"d2=late"]),
        txt.strings([b"txtvers=1", b"id=\xff", *txt.from_strings(TEXT)[2:]]),
        TEXT[:-1],
        b"\0",
    ],
    ids=["another version", "no document", "no id", "a piece is missing", "no text", "cut short", "empty"],
)
def test_what_is_not_ours_is_passed_over(text: bytes) -> None:
    assert list(dnssd.Reader().read(response(*answers(text)), 0)) == []


@given(st.binary(max_size=300))
def test_random_texts_are_passed_over(text: bytes) -> None:
    assert list(dnssd.Reader().read(response(*answers(text)), 0)) == []


def test_what_waits_for_the_rest_is_bounded() -> None:
    reader, (_, service, text, address) = dnssd.Reader(), answers(TEXT)
    list(reader.read(response(service, text), 0))
    strange = [(f"x{n}._micro._tcp.local.", (0, 0, 1, f"x{n}.local.")) for n in range(300)]
    strangers = [dns.ResourceRecord(name, dns.SRV, 120, target) for name, target in strange]
    list(reader.read(response(*strangers), 0))
    assert list(reader.read(response(address), 0)) == []


def test_a_text_of_more_than_twice_the_limit_is_not_kept() -> None:
    assert list(dnssd.Reader().read(response(*answers(TEXT + b"\0" * 16_000)), 0)) == []
