"""What every endpoint takes and gives: a dataclass or, where INTEROP_PAYLOAD says protobuf, a protobuf message."""

import os
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from google.protobuf import descriptor_pb2, descriptor_pool, message_factory

PROTOBUF = os.environ.get("INTEROP_PAYLOAD") == "protobuf"
FIELD = descriptor_pb2.FieldDescriptorProto


@dataclass
class Note:
    """What a plain struct is in Go: the same type in either mode."""

    text: str = ""


def item_message() -> Any:
    """Return the message class that fits the struct in go/peer/item.go."""
    file = descriptor_pb2.FileDescriptorProto(name="item.proto", package="interop", syntax="proto3")
    message = file.message_type.add(name="Item")
    types = {"text": FIELD.TYPE_STRING, "body": FIELD.TYPE_BYTES, "number": FIELD.TYPE_INT64}
    for number, (name, type) in enumerate(types.items(), start=1):
        message.field.add(name=name, number=number, type=type, label=FIELD.LABEL_OPTIONAL)
    pool = descriptor_pool.DescriptorPool()
    pool.Add(file)
    return message_factory.GetMessageClass(pool.FindMessageTypeByName("interop.Item"))


if TYPE_CHECKING or not PROTOBUF:

    @dataclass
    class Item:
        text: str = ""
        body: bytes = b""
        number: int = 0

else:
    Item = item_message()
