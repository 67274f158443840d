"""Messages for these tests, built from descriptors so that no generated code pins a version of protobuf."""

from typing import Any

import pytest
from google.protobuf import descriptor_pb2, descriptor_pool, message_factory, timestamp_pb2

FIELD = descriptor_pb2.FieldDescriptorProto


def greeting_class() -> Any:
    file = descriptor_pb2.FileDescriptorProto(name="greeting.proto", package="test", syntax="proto3")
    file.dependency.append("google/protobuf/timestamp.proto")
    kind = file.enum_type.add(name="Kind")
    kind.value.add(name="PLAIN", number=0)
    kind.value.add(name="WARM", number=1)
    message = file.message_type.add(name="Greeting")
    one, many = FIELD.LABEL_OPTIONAL, FIELD.LABEL_REPEATED
    message.field.add(name="name", number=1, type=FIELD.TYPE_STRING, label=one)
    message.field.add(name="sent_count", number=2, type=FIELD.TYPE_INT64, label=one)
    message.field.add(name="kind", number=3, type=FIELD.TYPE_ENUM, type_name=".test.Kind", label=one)
    message.field.add(name="replies", number=4, type=FIELD.TYPE_MESSAGE, type_name=".test.Greeting", label=many)
    scores = message.nested_type.add(name="ScoresEntry")
    scores.options.map_entry = True
    scores.field.add(name="key", number=1, type=FIELD.TYPE_STRING, label=one)
    scores.field.add(name="value", number=2, type=FIELD.TYPE_UINT64, label=one)
    message.field.add(
        name="scores", number=5, type=FIELD.TYPE_MESSAGE, type_name=".test.Greeting.ScoresEntry", label=many
    )
    message.field.add(name="ids", number=6, type=FIELD.TYPE_INT64, label=many)
    message.field.add(name="warmth", number=7, type=FIELD.TYPE_FLOAT, label=one)
    message.field.add(name="at", number=8, type=FIELD.TYPE_MESSAGE, type_name=".google.protobuf.Timestamp", label=one)
    pool = descriptor_pool.DescriptorPool()
    timestamp = descriptor_pb2.FileDescriptorProto()
    timestamp_pb2.DESCRIPTOR.CopyToProto(timestamp)
    pool.Add(timestamp)
    pool.Add(file)
    return message_factory.GetMessageClass(pool.FindMessageTypeByName("test.Greeting"))


@pytest.fixture(scope="session")
def greeting() -> Any:
    """The class of a message with fields of every kind that matters."""
    return greeting_class()
