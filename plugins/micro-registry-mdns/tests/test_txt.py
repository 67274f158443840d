"""TXT records: the worked example of docs/wire.md §10.4 in both directions, and hostile bytes."""

import json
import zlib
from collections.abc import Mapping

import pytest
from hypothesis import given
from hypothesis import strategies as st

from micro_core import DecodeError, Endpoint, Value
from micro_registry_mdns.wire import txt

DOCUMENT = (
    b'{"Service":"greeter","Version":"latest","Endpoints":[{"name":"Greeter.Hello","request":{"name":"Request",'
    b'"type":"Request","values":[{"name":"name","type":"string","values":null}]},"response":{"name":"Response",'
    b'"type":"Response","values":[{"name":"msg","type":"string","values":null}]},"metadata":{}}],"Metadata":'
    b'{"broker":"http","protocol":"mucp","registry":"mdns","server":"mucp","transport":"http"}}'
)
TEXT = (
    b"789c8d903d6ec3300c85efc2d9c801bc17c9922505ba1419149b7084ca9442d2010243770fe5b8ae8d2c9d247d783fc21be113f9ee1b84"
    b"1a3a465464a8e00b597c2463c1298a1afaa036454f2a507f8f40ae2f8efdcbb13b6008d1448cb7a1c8eb45719a4905fa485b7077c16eeb"
    b"b8e95894a2eca95b096908219f73a991144970d333a355d142de9b7ae9fe53d4a3bad6a9b3a29ccf151cffde70e1f86363d570554d664e"
    b"1c35363194f4a149d31a9db7ec47212d8911b1ad27cfac507664bf64fd8dc9f90990268838"
)
GREETER = txt.Description(
    service="greeter",
    version="latest",
    endpoints=(
        Endpoint(
            name="Greeter.Hello",
            request=Value(name="Request", type="Request", values=(Value(name="name", type="string"),)),
            response=Value(name="Response", type="Response", values=(Value(name="msg", type="string"),)),
        ),
    ),
    metadata={"transport": "http", "server": "mucp", "registry": "mdns", "protocol": "mucp", "broker": "http"},
)


def packed(document: bytes) -> bytes:
    digits = zlib.compress(document).hex().encode()
    return txt.strings([digits[at : at + 255] for at in range(0, len(digits), 255)])


def test_the_document_of_the_wire_is_written() -> None:
    assert txt.document(GREETER) == DOCUMENT


def test_the_text_of_the_wire_is_read() -> None:
    assert txt.join_hex(txt.strings([TEXT[:255], TEXT[255:]])) == GREETER


def test_hex_is_cut_into_strings_of_255() -> None:
    strings = txt.from_strings(txt.split_hex(GREETER))
    assert [len(piece) for piece in strings[:-1]] == [255] * (len(strings) - 1)
    assert json.loads(zlib.decompress(bytes.fromhex(b"".join(strings).decode()))) == json.loads(DOCUMENT)


def test_keys_are_read_in_any_case_and_any_order_in_upper_case_hex() -> None:
    upper = packed(b'{"metadata":{"A":"b"},"ENDPOINTS":null,"version":"1","service":"s"}')
    strings = [piece.upper() for piece in txt.from_strings(upper)]
    assert txt.join_hex(txt.strings(strings)) == txt.Description(service="s", version="1", metadata={"A": "b"})


def test_the_metadata_of_the_service_is_a_key_more_where_there_is_any() -> None:
    description = txt.Description(service="s", version="1", service_metadata={"team": "hello"})
    assert txt.document(description).endswith(b'"Metadata":{},"ServiceMetadata":{"team":"hello"}}')
    assert txt.join_hex(txt.split_hex(description)) == description


def test_null_stands_for_what_may_be_empty() -> None:
    text = packed(
        b'{"Service":"s","Version":"1","Endpoints":[{"name":"E","request":null,"metadata":null}],"Metadata":null}'
    )
    assert txt.join_hex(text).endpoints == (Endpoint(name="E", metadata={}),)


DEEP = b'{"Service":"s","Version":"1","Endpoints":[{"name":"E","request":' + b'{"values":[' * 20 + b"]}" * 20 + b"}]}"


@pytest.mark.parametrize(
    "document",
    [
        b"null",
        b"[]",
        b'"text"',
        b"{",
        b"\xff",
        b'{"Service":1}',
        b'{"Service":"\\ud800"}',
        b'{"Endpoints":{}}',
        b'{"Endpoints":[null]}',
        b'{"Metadata":[]}',
        b'{"Metadata":{"a":{}}}',
        b"[" * 100_000,
        b'{"a":' * 100_000,
        b'{"Endpoints":[' + b",".join([b'{"name":"E"}'] * 1_025) + b"]}",
        DEEP,
        b" " * (512 * 1024 + 1),
    ],
    ids=lambda document: document[:12].decode(errors="replace"),
)
def test_documents_that_are_no_description_are_decode_errors(document: bytes) -> None:
    with pytest.raises(DecodeError):
        txt.inflate(zlib.compress(document))


def test_a_bomb_is_not_inflated() -> None:
    bomb = zlib.compress(bytes(200 * 1024 * 1024))
    with pytest.raises(DecodeError, match="524288"):
        txt.inflate(bomb)


@pytest.mark.parametrize("rdata", [b"\x05abc", b"\x02zz", b"\x02\xc3\xa4", b"", b"\x04789c"])
def test_broken_records_are_decode_errors(rdata: bytes) -> None:
    with pytest.raises(DecodeError):
        txt.join_hex(rdata)


texts = st.text(st.characters(codec="utf-8"), max_size=20)
metadata: st.SearchStrategy[Mapping[str, str]] = st.dictionaries(texts, texts, max_size=4)
values = st.recursive(
    st.builds(Value, name=texts, type=texts),
    lambda children: st.builds(Value, name=texts, type=texts, values=st.lists(children, max_size=3).map(tuple)),
    max_leaves=6,
)
endpoints = st.builds(Endpoint, name=texts, request=st.none() | values, response=st.none() | values, metadata=metadata)
descriptions = st.builds(
    txt.Description,
    service=texts,
    version=texts,
    endpoints=st.lists(endpoints, max_size=3).map(tuple),
    metadata=metadata,
    service_metadata=metadata,
)


@given(descriptions)
def test_what_is_written_is_read_back(description: txt.Description) -> None:
    assert txt.join_hex(txt.split_hex(description)) == description


@given(st.binary(max_size=400))
def test_random_records_are_decode_errors(rdata: bytes) -> None:
    with pytest.raises(DecodeError):
        txt.join_hex(rdata)


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=5), inner, max_size=4),
)
keys = st.sampled_from(["Service", "version", "Endpoints", "metadata", "name", "values", "request"])


@given(st.dictionaries(keys, json_values | st.lists(st.dictionaries(keys, json_values))))
def test_any_json_is_a_description_or_a_decode_error(document: dict[str, object]) -> None:
    try:
        txt.inflate(zlib.compress(json.dumps(document).encode()))
    except DecodeError:
        pass
