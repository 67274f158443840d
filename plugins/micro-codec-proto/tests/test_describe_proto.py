"""How messages are described in the registry (docs/wire.md §3.10)."""

from dataclasses import dataclass
from typing import Any

from google.protobuf import api_pb2

from micro_core import Value
from micro_core.describe import describe


@dataclass
class Holder:
    api: api_pb2.Api


def test_a_message_is_drawn_with_the_names_of_the_proto(greeting: Any) -> None:
    value = describe(greeting, "Request")
    assert (value.name, value.type) == ("Request", "Greeting")
    assert {field.name: field.type for field in value.values} == {
        "name": "string",
        "sent_count": "int64",
        "kind": "Kind",
        "replies": "[]Greeting",
        "scores": "",
        "ids": "[]int64",
        "warmth": "float32",
        "at": "Timestamp",
    }
    assert value.values[-1].values == (Value(name="seconds", type="int64"), Value(name="nanos", type="int32"))


def test_a_message_within_something_else_is_drawn_too() -> None:
    (api,) = describe(Holder, "Request").values
    assert (api.name, api.type) == ("api", "Api")
    source = next(field for field in api.values if field.name == "source_context")
    assert source == Value(name="source_context", type="SourceContext")  # the third level
