"""DNS messages: the worked examples of docs/wire.md §10.5 in both directions, and hostile bytes."""

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from micro_core import DecodeError, EncodeError
from micro_registry_mdns.wire import dns, dnssd, gomicro, txt

QUERY = bytes.fromhex("3a7f00000001000000000000 0767726565746572056d6963726f00 000c0001")
COMPRESSED = (  # docs/wire.md §10.4
    b"789c8d903d6ec3300c85efc2d9c801bc17c9922505ba1419149b7084ca9442d2010243770fe5b8ae8d2c9d247d783fc21be1"
    b"13f9ee1b841a3a465464a8e00b597c2463c1298a1afaa036454f2a507f8f40ae2f8efdcbb13b6008d1448cb7a1c8eb45719a"
    b"4905fa485b7077c16eebb8e95894a2eca95b096908219f73a991144970d333a355d142de9b7ae9fe53d4a3bad6a9b3a29ccf"
    b"151cffde70e1f86363d570554d664e1c35363194f4a149d31a9db7ec47212d8911b1ad27cfac507664bf64fd8dc9f9099026"
    b"8838"
)
GREETER_TEXT = txt.strings([COMPRESSED[:255], COMPRESSED[255:]])
ANSWER = (
    bytes.fromhex("000084000001000400000000 0767726565746572056d6963726f00 000c0001")
    + bytes.fromhex("c00c000c000100000078002f 2c")
    + b"greeter-0d1f5a3e-7c0b-4c43-9a55-0c7f5b1f2bc1"
    + bytes.fromhex("c00c")
    + bytes.fromhex("c02b0021000100000078000e000a00019cbb06646576626f7800")
    + bytes.fromhex("06646576626f780000010001000000780004c0a8010a")
    + bytes.fromhex("c02b00100001000000780196")
)
LISTING = bytes.fromhex(
    "000084000001000400000000095f7365727669636573056d6963726f00000c0001"
    "c00c000c000100000078000a0767726565746572c00c"
    "c02d0021000100000078000e000a0001270f06646576626f7800"
    "06646576626f78000001000100000078000400000000"
    "c02d00100001000000780000"
)


def greeter_entry() -> gomicro.Entry:
    return gomicro.Entry(
        service="greeter",
        id="greeter-0d1f5a3e-7c0b-4c43-9a55-0c7f5b1f2bc1",
        host="devbox.",
        address="192.168.1.10",
        port=40123,
        text=GREETER_TEXT,
    )


def test_the_query_of_the_wire_document_is_written_and_read() -> None:
    message = dns.decode(QUERY)
    assert message == dns.Message(id=0x3A7F, questions=(dns.Question("greeter.micro.", dns.PTR),))
    assert gomicro.query("greeter", 0x3A7F) == QUERY


def test_the_answer_of_the_wire_document_is_written() -> None:
    zone = gomicro.Zone("devbox.")
    zone.put(greeter_entry())
    [packet] = zone.answers(dns.decode(QUERY), port=40_000, local=False)
    assert packet == ANSWER + GREETER_TEXT
    assert len(packet) == 556


def test_the_answer_of_the_wire_document_is_read() -> None:
    [sighting] = gomicro.read(dns.decode(ANSWER + GREETER_TEXT))
    [node] = sighting.record.nodes
    assert (sighting.record.name, sighting.record.version, sighting.ttl) == ("greeter", "latest", 120)
    assert (node.id, node.address) == (greeter_entry().id, "192.168.1.10:40123")
    assert node.metadata["protocol"] == "mucp"
    assert sighting.record.endpoints[0].name == "Greeter.Hello"


def test_an_answer_without_the_question_is_read_too() -> None:
    message = dns.decode(ANSWER + GREETER_TEXT)
    as_v1 = dns.encode(dns.Message(flags=message.flags, answers=message.answers))
    assert [s.key for s in gomicro.read(dns.decode(as_v1))] == [("greeter", greeter_entry().id)]


def test_the_listing_of_the_wire_document_is_written_and_read() -> None:
    zone = gomicro.Zone("devbox.")
    zone.put(greeter_entry())
    [packet] = zone.answers(dns.decode(gomicro.listing_query(7)), port=40_000, local=False)
    assert packet == LISTING
    assert list(gomicro.listed(dns.decode(LISTING))) == ["greeter"]


def test_a_listing_is_no_node() -> None:
    assert list(gomicro.read(dns.decode(LISTING))) == []


@pytest.mark.parametrize(
    "packet",
    [
        QUERY[:12] + b"\xc0\x0c" + QUERY[-4:],  # a name that points at itself
        QUERY[:12] + b"\xc0\x10" + QUERY[-4:],  # forwards
        QUERY[:12] + b"\x40" + b"a" * 64 + b"\0" + QUERY[-4:],  # a label of 64 bytes
        QUERY[:12] + b"\x3f".join([b"", *[b"a" * 63] * 5]) + b"\0" + QUERY[-4:],  # a name of more than 255 bytes
        b"\0" * 4 + b"\xff" * 8,  # claims 262140 records
        QUERY[:-1],
        b"",
    ],
)
def test_broken_messages_are_decode_errors(packet: bytes) -> None:
    with pytest.raises(DecodeError):
        dns.decode(packet)


@given(st.integers(0, 555))
def test_a_truncated_answer_is_a_decode_error(cut: int) -> None:
    with pytest.raises(DecodeError):
        dns.decode((ANSWER + GREETER_TEXT)[:cut])


@given(st.binary(max_size=700))
def test_random_bytes_are_a_message_or_a_decode_error(packet: bytes) -> None:
    read_all(packet)


@given(st.lists(st.tuples(st.integers(0, 555), st.integers(0, 255)), min_size=1, max_size=12))
@example([(12, 0xC0)])
@example([(31, 0xC0), (32, 0x1F)])
def test_mutated_answers_are_read_or_refused(mutations: list[tuple[int, int]]) -> None:
    packet = bytearray(ANSWER + GREETER_TEXT)
    for at, byte in mutations:
        packet[at] = byte
    read_all(bytes(packet))


def read_all(packet: bytes) -> None:
    try:
        message = dns.decode(packet)
    except DecodeError:
        return
    zone = gomicro.Zone("devbox.")
    zone.put(greeter_entry())
    list(gomicro.read(message))
    list(gomicro.listed(message))
    list(dnssd.Reader().read(message, 0))
    list(zone.answers(message, port=40_000, local=True))


labels = st.text(st.characters(codec="utf-8", exclude_characters=".\\"), min_size=1, max_size=15)
names = st.lists(labels, min_size=1, max_size=4).map(lambda parts: ".".join(parts) + ".")
ttls = st.integers(0, 2**32 - 1)
ports = st.integers(0, 65535)
records = st.one_of(
    st.builds(dns.ResourceRecord, names, st.just(dns.PTR), ttls, names),
    st.builds(dns.ResourceRecord, names, st.just(dns.SRV), ttls, st.tuples(ports, ports, ports, names)),
    st.builds(dns.ResourceRecord, names, st.just(dns.TXT), ttls, st.binary(max_size=300)),
    st.builds(dns.ResourceRecord, names, st.just(dns.A), ttls, st.ip_addresses(v=4).map(str)),
    st.builds(dns.ResourceRecord, names, st.just(dns.AAAA), ttls, st.ip_addresses(v=6).map(str)),
)
sections = st.lists(records, max_size=6).map(tuple)
messages = st.builds(
    dns.Message,
    id=ports,
    flags=ports,
    questions=st.lists(st.builds(dns.Question, names, ports, st.booleans()), max_size=3).map(tuple),
    answers=sections,
    authorities=sections,
    additionals=sections,
)


@given(messages)
def test_what_is_written_is_read_back(message: dns.Message) -> None:
    assert dns.decode(dns.encode(message)) == message


def test_a_label_of_64_bytes_is_not_written() -> None:
    with pytest.raises(EncodeError, match="label"):
        gomicro.query("a" * 64, 1)


def test_a_text_of_more_than_65535_bytes_is_not_written() -> None:
    record = dns.ResourceRecord("a.", dns.TXT, 120, txt.strings([b"x" * 255] * 257))
    with pytest.raises(EncodeError, match="65535"):
        dns.encode(dns.Message(answers=(record,)))
