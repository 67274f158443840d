"""Go Micro's dialect: who is answered what, and which answers are believed (docs/wire.md §1)."""

from dataclasses import replace

import pytest

from micro_registry_mdns.wire import dns, gomicro, txt

TEXT = txt.split_hex(txt.Description(service="greeter", version="latest", metadata={"protocol": "mucp"}))
ONE = gomicro.Entry(service="greeter", id="greeter-1", host="devbox.", address="10.0.0.5", port=8080, text=TEXT)
TWO = replace(ONE, id="greeter-2", port=8081)
LOOPBACK = replace(ONE, id="greeter-3", address="127.0.0.1")


def zone(*entries: gomicro.Entry) -> gomicro.Zone:
    made = gomicro.Zone("devbox.")
    for entry in entries:
        made.put(entry)
    return made


def ask(zone: gomicro.Zone, name: str, type_: int = dns.PTR, *, local: bool = True) -> list[dns.Message]:
    message = dns.Message(id=77, questions=(dns.Question(name, type_),))
    return [dns.decode(packet) for packet in zone.answers(message, port=40_000, local=local)]


def types(message: dns.Message) -> list[int]:
    return [record.type for record in message.answers]


def test_each_node_has_a_packet_of_its_own_that_echoes_the_question() -> None:
    first, second = ask(zone(ONE, TWO), "greeter.micro.")
    assert first.questions == second.questions == (dns.Question("greeter.micro.", dns.PTR),)
    assert types(first) == types(second) == [dns.PTR, dns.SRV, dns.A, dns.TXT]
    assert [first.answers[0].data, second.answers[0].data] == ["greeter-1.greeter.micro.", "greeter-2.greeter.micro."]
    assert (first.id, first.flags) == (0, 0x8400)


def test_a_question_with_the_unicast_bit_gets_its_id_back() -> None:
    message = dns.Message(id=77, questions=(dns.Question("greeter.micro.", dns.PTR, unicast=True),))
    [packet] = zone(ONE).answers(message, port=40_000, local=True)
    assert dns.decode(packet).id == 77


@pytest.mark.parametrize(
    ("name", "type_", "expected"),
    [
        ("greeter.micro.", dns.PTR, [[dns.PTR, dns.SRV, dns.A, dns.TXT]]),
        ("greeter.micro.", dns.ANY, [[dns.PTR, dns.SRV, dns.A, dns.TXT]]),
        ("greeter.micro.", dns.SRV, []),
        ("greeter-1.greeter.micro.", dns.PTR, []),
        ("greeter-1.greeter.micro.", dns.ANY, [[dns.SRV, dns.A, dns.TXT]]),
        ("greeter-1.greeter.micro.", dns.SRV, [[dns.SRV, dns.A]]),
        ("greeter-1.greeter.micro.", dns.TXT, [[dns.TXT]]),
        ("greeter-1.greeter.micro.", dns.A, [[dns.A]]),
        ("greeter-1.greeter.micro.", dns.AAAA, []),
        ("devbox.", dns.A, [[dns.A]]),
        ("devbox.", dns.ANY, []),
        ("_services.micro.", dns.PTR, [[dns.PTR, dns.SRV, dns.A, dns.TXT]]),
        ("greeter._services.micro.", dns.SRV, [[dns.SRV, dns.A]]),
        ("_services._dns-sd._udp.micro.", dns.PTR, [[dns.PTR], [dns.PTR]]),
        ("Greeter.micro.", dns.PTR, []),
        ("mailer.micro.", dns.PTR, []),
    ],
)
def test_questions_are_answered_as_go_answers_them(name: str, type_: int, expected: list[list[int]]) -> None:
    assert [types(message) for message in ask(zone(ONE), name, type_)] == expected


def test_loopback_nodes_are_told_to_local_askers_only() -> None:
    assert len(ask(zone(ONE, LOOPBACK), "greeter.micro.", local=True)) == 2
    assert len(ask(zone(ONE, LOOPBACK), "greeter.micro.", local=False)) == 1
    assert ask(zone(LOOPBACK), "_services.micro.", local=False) == []
    assert ask(zone(LOOPBACK), "_services._dns-sd._udp.micro.", local=False) == []


@pytest.mark.parametrize(
    ("flags", "port"), [(0x8400, 40_000), (0x0800, 40_000), (0x0003, 40_000), (0, 5353)],
    ids=["a response", "another opcode", "an error", "from port 5353"],
)  # fmt: skip
def test_what_may_be_another_responder_is_not_answered(flags: int, port: int) -> None:
    message = dns.Message(flags=flags, questions=(dns.Question("greeter.micro.", dns.PTR),))
    assert list(zone(ONE).answers(message, port=port, local=True)) == []


def test_a_removed_node_is_answered_for_no_longer_and_its_service_not_listed() -> None:
    emptied = zone(ONE)
    emptied.remove(ONE)
    assert ask(emptied, "greeter.micro.") == ask(emptied, "_services.micro.") == []


def test_announcements_and_goodbyes_hold_no_question_and_no_pointer() -> None:
    for packet, ttl in [(gomicro.announcement(ONE), 120), (gomicro.goodbye(ONE), 0)]:
        message = dns.decode(packet)
        assert (message.id, message.flags, message.questions) == (0, 0x8000, ())
        assert types(message) == [dns.SRV, dns.A, dns.TXT]
        assert {record.ttl for record in message.answers} == {ttl}


def test_a_node_with_an_ipv6_address_is_published_and_read() -> None:
    entry = replace(ONE, address="fd00::5")
    [sighting] = gomicro.read(dns.decode(gomicro.announcement(entry)))
    assert sighting.record.nodes[0].address == "[fd00::5]:8080"


def read(*records: dns.ResourceRecord) -> list[str]:
    message = dns.Message(flags=0x8000, answers=records)
    return [sighting.record.nodes[0].address for sighting in gomicro.read(message)]


def test_an_address_counts_only_in_the_packet_of_its_service_record() -> None:
    service, address, text = ONE.unsolicited(120)
    assert list(gomicro.read(dns.Message(flags=0x8000, answers=(service, text)))) == []
    assert list(gomicro.read(dns.Message(flags=0x8000, answers=(address,)))) == []


def test_the_order_of_records_and_their_section_do_not_matter() -> None:
    service, address, text = ONE.unsolicited(120)
    message = dns.Message(flags=0x8000, answers=(text, address), additionals=(service,))
    assert [sighting.key for sighting in gomicro.read(message)] == [("greeter", "greeter-1")]


@pytest.mark.parametrize(
    "entry",
    [
        replace(ONE, address="0.0.0.0"),
        replace(ONE, address="224.0.0.251"),
        replace(ONE, port=0),
        replace(ONE, service="mailer"),
        replace(ONE, text=b""),
        replace(ONE, text=b"\x04null"),
        replace(ONE, text=txt.split_hex(txt.Description(service="greeter", version=""))),
        replace(ONE, text=txt.split_hex(txt.Description(service="", version="1"))),
        replace(ONE, text=txt.split_hex(txt.Description(service="greeter", version="1\n2"))),
    ],
)
def test_what_cannot_be_called_is_passed_over(entry: gomicro.Entry) -> None:
    assert list(gomicro.read(dns.decode(gomicro.announcement(entry)))) == []


def test_a_bad_instance_does_not_hide_a_good_one_in_the_same_packet() -> None:
    bad = replace(TWO, text=b"\x02zz").unsolicited(120)
    assert read(*bad, *ONE.unsolicited(120)) == ["10.0.0.5:8080"]


def test_an_announcement_is_not_taken_for_a_listing() -> None:
    assert list(gomicro.listed(dns.decode(gomicro.announcement(ONE)))) == []


def test_a_listed_name_that_cannot_be_asked_for_is_passed_over() -> None:
    raw = b"\0\0\x84\0\0\0\0\1\0\0\0\0\x09_services\5micro\0\0\x0c\0\1\0\0\0x\0\x42\x3f" + b"\xff" * 63 + b"\xc0\x0c"
    assert list(gomicro.listed(dns.decode(raw))) == []


def test_names_with_dots_are_separate_labels() -> None:
    dotted = replace(
        ONE,
        service="go.micro.srv.greeter",
        id="go.micro.srv.greeter-1",
        text=txt.split_hex(txt.Description(service="go.micro.srv.greeter", version="1")),
    )
    [sighting] = gomicro.read(dns.decode(gomicro.announcement(dotted)))
    assert sighting.key == ("go.micro.srv.greeter", "go.micro.srv.greeter-1")


def test_one_packet_is_not_read_for_ever() -> None:
    heavy = txt.split_hex(txt.Description(service="greeter", version="1", metadata={"a": "a" * 200_000}))
    entries = [replace(ONE, id=f"greeter-{number}", text=heavy) for number in range(20)]
    message = dns.Message(flags=0x8000, answers=tuple(record for entry in entries for record in entry.unsolicited(120)))
    assert len(list(gomicro.read(message))) == 3


def test_malformed_texts_of_one_packet_are_not_tried_for_ever() -> None:
    entries = [replace(ONE, id=f"bad-{number}", text=b"\x02zz") for number in range(20)]
    message = [record for entry in (*entries, ONE) for record in entry.unsolicited(120)]
    assert read(*message) == []
