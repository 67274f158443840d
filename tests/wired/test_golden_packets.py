"""Our parsers and writers against bytes that real Go Micro programs sent (tests/interop/record.py). Needs no Go."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from micro_broker_http.wire.envelope import Form, decode_envelope, encode_envelope
from micro_core import Headers
from micro_registry_mdns.wire import dns, gomicro
from micro_transport_http.http1.parser import RequestParser, ResponseParser

GOLDEN = sorted((Path(__file__).parent / "golden").glob("*.json"))
ASKED = dns.Question("golden.micro.", dns.PTR)
FORMS = {"go-micro v1.18.0": Form.V1, "go-micro v4.10.2": Form.V2, "go-micro v5.0.0": Form.V2}


@pytest.fixture(params=GOLDEN, ids=lambda path: path.stem)
def golden(request: pytest.FixtureRequest) -> Any:
    return json.loads(request.param.read_text(encoding="utf-8"))


def decoded(packets: list[str]) -> list[dns.Message]:
    return [dns.decode(bytes.fromhex(packet)) for packet in packets]


def sightings(messages: list[dns.Message]) -> list[Any]:
    found = [sighting for message in messages if message.is_response for sighting in gomicro.read(message)]
    return [sighting for sighting in found if sighting.record.name == "golden"]


def answer_in(golden: Any) -> dns.Message:
    """Return what the server answered to the question for its service."""
    [answer] = [m for m in decoded(golden["asked"]) if m.answers and m.answers[0].name == ASKED.name]
    return answer


def test_there_is_a_recording_of_every_line_of_go_micro() -> None:
    assert [path.stem for path in GOLDEN] == ["v1", "v4", "v5"]


def test_announcement_answer_and_goodbye_tell_of_one_node(golden: Any) -> None:
    announced, answered, gone = (sightings(decoded(golden[key])) for key in ("announced", "asked", "gone"))
    assert {sighting.key for sighting in announced} == {sighting.key for sighting in answered} != set()
    assert all(sighting.ttl == 120 for sighting in [*announced, *answered])
    assert [sighting.ttl for sighting in gone] == [0]
    record = answered[0].record
    assert record.version == "1.0"
    assert record.nodes[0].metadata["protocol"] == "mucp"
    described = {endpoint.name: endpoint for endpoint in record.endpoints}
    assert described["Interop.Count"].metadata["stream"] == "true"
    assert [value.name for value in described["Interop.Echo"].request.values] == ["text", "body", "number"]


def test_a_go_client_s_question_gets_the_answer_that_go_gives(golden: Any) -> None:
    """Record for record, but for the question, which newer lines echo as ours does (docs/wire.md §1.7)."""
    [question] = [m for m in decoded(golden["asked"]) if m.questions == (ASKED,) and not m.is_response]
    theirs = answer_in(golden)
    records: Any = theirs.answers[1:]
    service, address, text = records
    zone = gomicro.Zone("devbox.")
    entry = gomicro.Entry(
        service="golden",
        id=service.name.removesuffix(".golden.micro."),
        host="devbox.",
        address=address.data,
        port=service.data[2],
        text=text.data,
    )
    zone.put(entry)
    [packet] = zone.answers(question, port=40_000, local=True)
    ours = dns.decode(packet)
    assert ours.answers == theirs.answers
    assert ours.flags == theirs.flags
    assert ours.questions == (ASKED,)
    assert theirs.questions == (() if golden["made_by"].startswith("go-micro v1.") else (ASKED,))


def test_our_question_is_go_s(golden: Any) -> None:
    packets = [bytes.fromhex(packet) for packet in golden["asked"]]
    [sent] = [packet for packet in packets if (asked := dns.decode(packet)).questions == (ASKED,) and not asked.answers]
    assert gomicro.query("golden", int.from_bytes(sent[:2], "big")) == sent


def test_the_listing_names_the_service(golden: Any) -> None:
    names = {name for message in decoded(golden["asked"]) if message.is_response for name in gomicro.listed(message)}
    assert "golden" in names


def messages(kind: Any, text: str, step: int) -> list[tuple[Headers, bytes]]:
    found: list[tuple[Headers, bytes]] = []
    parser = kind(lambda headers, body: found.append((headers, body)), headers=1 << 16, body=1 << 20)
    data = text.encode("latin-1")
    for start in range(0, len(data), step):
        parser.feed(data[start : start + step])
    return found


COUNTS = {
    "empty_unary-json": (1, 1),
    "error_code_and_detail-json": (1, 1),
    "server_stream-json": (3, 6),
    "ping_pong-json": (12, 10),
    "empty_unary-protobuf": (1, 1),
    "server_stream-protobuf": (3, 6),
    "error_code_and_detail-json-rpc": (1, 1),
    "error_code_and_detail-proto-rpc": (1, 1),
}
"""Requests and responses of each recording: a stream is opened, gets its argument, and is ended by either side."""


@pytest.mark.parametrize("call", COUNTS)
@pytest.mark.parametrize("step", [1, 1 << 20], ids=["bytewise", "whole"])
def test_what_go_sends_over_http_is_read(golden: Any, call: str, step: int) -> None:
    recorded = golden["calls"][call]
    requests, responses = (
        messages(RequestParser, recorded["request"], step),
        messages(ResponseParser, recorded["response"], step),
    )
    assert len(responses) == COUNTS[call][1]
    assert COUNTS[call][0] - 1 <= len(requests) <= COUNTS[call][0]  # a Go client that leaves may not get to say so
    assert {headers[b"Micro-Service"] for headers, _ in requests} == {b"golden"}
    assert all(headers[b"Content-Type"] for headers, _ in responses)


def test_a_published_message_is_read_and_written_as_go_does(golden: Any) -> None:
    form = FORMS[golden["made_by"]]
    [(headers, body)] = messages(RequestParser, golden["post"], 1)
    assert golden["post"].startswith(f"POST {form.path}?id=golden.all-")
    assert headers[b"Content-Type"] == b"application/json"
    topic, message = decode_envelope(body)
    assert topic == "golden.all"
    assert json.loads(message.body)["text"].startswith("all ")
    written = encode_envelope(topic, message, form, both_keys=False)
    assert written == body.replace(b"Micro-ID", b"Micro-Id")
