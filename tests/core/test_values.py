"""The values of the contracts, as anybody's values."""

import copy
import pickle
from typing import Any

import msgspec
import pytest

from micro_core import Change, ChangeKind, Endpoint, Node, Record, Value

RECORD = Record(
    name="greeter",
    version="1",
    nodes=(Node(id="a", address="127.0.0.1:80"),),
    endpoints=(Endpoint(name="Greeter.Hello", request=Value(name="Hello", type="Hello")),),
)


@pytest.mark.parametrize("value", [RECORD, Change(kind=ChangeKind.CREATE, record=RECORD)])
def test_they_are_copied_and_written_and_read(value: Any) -> None:
    assert pickle.loads(pickle.dumps(value)) == value
    assert copy.deepcopy(value) == value
    assert msgspec.json.decode(msgspec.json.encode(value), type=type(value)) == value


def test_a_changed_copy_leaves_the_first_as_it_was() -> None:
    node = RECORD.nodes[0]
    moved = msgspec.structs.replace(node, address="127.0.0.1:81")
    assert (node.address, moved.address) == ("127.0.0.1:80", "127.0.0.1:81")
    with pytest.raises(AttributeError):
        node.address = "127.0.0.1:82"  # type: ignore[misc]
