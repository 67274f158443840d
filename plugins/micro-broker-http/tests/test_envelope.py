"""Go Micro's envelope: the worked examples, and what is no envelope."""

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from micro_broker_http.wire.envelope import Form, decode_envelope, encode_envelope
from micro_core import DecodeError, Message

# docs/wire.md §10.3
V1 = (
    b'{"Header":{":topic":"greetings","Content-Type":"application/json","Micro-From-Service":"go.micro.srv.pub",'
    b'"Micro-Id":"5d1c2f6e-0d0a-4b8c-9a34-6a4d3f9b7a10","Micro-Topic":"greetings"},"Body":"eyJuYW1lIjoiSm9obiJ9Cg=="}'
)
V2 = (
    b'{"Header":{"Content-Type":"application/json","Micro-ID":"5d1c2f6e-0d0a-4b8c-9a34-6a4d3f9b7a10",'
    b'"Micro-Topic":"greetings"},"Body":"eyJuYW1lIjoiSm9obiJ9Cg=="}'
)
BODY = b'{"name":"John"}\n'
ID = b"5d1c2f6e-0d0a-4b8c-9a34-6a4d3f9b7a10"


def test_the_older_example_is_read():
    assert len(V1) == 217
    assert decode_envelope(V1) == (
        "greetings",
        Message(
            {
                b"Content-Type": b"application/json",
                b"Micro-From-Service": b"go.micro.srv.pub",
                b"Micro-Id": ID,
                b"Micro-Topic": b"greetings",
            },
            BODY,
        ),
    )


def test_the_newer_example_is_read_and_its_id_is_canonical():
    assert len(V2) == 156
    headers = {b"Content-Type": b"application/json", b"Micro-Id": ID, b"Micro-Topic": b"greetings"}
    assert decode_envelope(V2) == ("greetings", Message(headers, BODY))


def test_the_older_example_is_written_byte_for_byte():
    headers = {
        b"Micro-Topic": b"greetings",
        b"Micro-Id": ID,
        b"Content-Type": b"application/json",
        b"Micro-From-Service": b"go.micro.srv.pub",
    }
    assert encode_envelope("greetings", Message(headers, BODY), Form.V1) == V1


def test_the_newer_example_is_written_byte_for_byte():
    message = Message({b"Micro-ID": ID, b"Content-Type": b"application/json"}, BODY)
    assert encode_envelope("greetings", message, Form.V2, both_keys=False) == V2


def test_both_topic_keys_are_written_to_both_forms():
    for form in Form:
        header = json.loads(encode_envelope("new", Message({}), form))["Header"]
        assert header == {":topic": "new", "Micro-Topic": "new"}


def test_only_the_newer_form_overwrites_the_topic_of_a_message():
    message = Message({b"Micro-Topic": b"inner"})
    assert json.loads(encode_envelope("outer", message, Form.V1))["Header"]["Micro-Topic"] == "inner"
    assert json.loads(encode_envelope("outer", message, Form.V2))["Header"]["Micro-Topic"] == "outer"


def test_an_empty_message_of_go_has_a_null_body():
    data = b'{"Header":{"Micro-Topic":"t"},"Body":null}'
    assert decode_envelope(data) == ("t", Message({b"Micro-Topic": b"t"}))


def test_the_outer_keys_are_read_in_any_case():
    assert decode_envelope(b'{"hEADER":{":topic":"t"},"body":"aGk="}')[1].body == b"hi"


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"null",
        b"[]",
        b"7",
        b"{}",
        b'{"Header":null,"Body":""}',
        b'{"Header":{"micro-topic":"t"}}',
        b'{"Header":{":topic":""}}',
        b'{"Header":{":topic":7}}',
        b'{"Header":{":topic":"t"},"Body":"aGk"}',
        b'{"Header":{":topic":"t"},"Body":"_-8="}',
        b'{"Header":{":topic":"t"},"Body":"a G k="}',
        b'{"Header":{":topic":"t"},"Body":7}',
        b'{"Header":{":topic":"\xff"}}',
        b'{"Header":{":topic":"\\ud800"}}',
        b'{"Header":{":topic":"t"},"More":' + b"[" * 200_000,
        b'{"Header":{":topic":"t"}}}',
    ],
)
def test_what_go_answers_500_to_is_one_typed_error(data):
    with pytest.raises(DecodeError):
        decode_envelope(data)


@given(data=st.binary(max_size=400))
def test_random_bytes_are_read_or_refused(data):
    try:
        decode_envelope(data)
    except DecodeError:
        pass


_json = st.recursive(
    st.none() | st.booleans() | st.floats() | st.integers() | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=8,
)


@given(header=_json, body=_json, more=st.dictionaries(st.text(), _json, max_size=2))
def test_random_json_is_read_or_refused(header, body, more):
    try:
        decode_envelope(json.dumps({"Header": header, "Body": body, **more}).encode())
    except DecodeError:
        pass


@given(
    topic=st.text(st.characters(exclude_categories=["Cs"]), min_size=1),
    values=st.dictionaries(st.from_regex(r"[A-Z][a-z]{0,8}", fullmatch=True), st.text(st.characters(codec="utf-8"))),
    body=st.binary(),
    form=st.sampled_from(Form),
)
def test_what_is_written_is_read_back(topic, values, body, form):
    headers = {name.encode(): value.encode() for name, value in values.items()}
    read = decode_envelope(encode_envelope(topic, Message(headers, body), form))
    assert read == (topic, Message({**headers, b"Micro-Topic": topic.encode()}, body))


@given(cut=st.integers(min_value=0, max_value=len(V1) - 1))
def test_a_truncated_envelope_is_refused(cut):
    with pytest.raises(DecodeError):
        decode_envelope(V1[:cut])
