"""The requests and replies of every benchmark: JSON by msgspec for all who leave it open, and protobuf.

A reply holds the name that its request held, so that both bodies have the size that is measured.
"""

from dataclasses import dataclass
from typing import Any

import msgspec
from google.protobuf import descriptor_pb2, descriptor_pool, message_factory

CODECS = ("json", "proto")
_AROUND = len(b'{"name":""}')


@dataclass
class Hello:
    name: str


@dataclass
class Greeting:
    greeting: str


encode = msgspec.json.Encoder().encode
decode_hello = msgspec.json.Decoder(Hello).decode
decode_greeting = msgspec.json.Decoder(Greeting).decode


def _protobuf(name: str, field: str) -> Any:
    """Return a message class with one text; both are those of gRPC's helloworld."""
    file = descriptor_pb2.FileDescriptorProto(name=f"{name}.proto", package="helloworld", syntax="proto3")
    text = descriptor_pb2.FieldDescriptorProto
    file.message_type.add(name=name).field.add(name=field, number=1, type=text.TYPE_STRING, label=text.LABEL_OPTIONAL)
    pool = descriptor_pool.DescriptorPool()
    pool.Add(file)
    return message_factory.GetMessageClass(pool.FindMessageTypeByName(f"helloworld.{name}"))


HelloRequest = _protobuf("HelloRequest", "name")
HelloReply = _protobuf("HelloReply", "message")


def hello(codec: str, size: int) -> Any:
    """Return a request whose body has about ``size`` bytes."""
    name = "x" * (size - _AROUND)
    return Hello(name) if codec == "json" else HelloRequest(name=name)


def write(request: Any) -> bytes:
    """Return the body of a request."""
    return encode(request) if isinstance(request, Hello) else bytes(request.SerializeToString())


def answer(codec: str, request: bytes) -> bytes:
    """Return the reply's body to a request's: what a handler does where nobody decodes for it."""
    if codec == "json":
        return encode(Greeting(decode_hello(request).name))
    return bytes(HelloReply(message=HelloRequest.FromString(request).name).SerializeToString())


def understand(codec: str, reply: bytes) -> Any:
    """Return what a reply's body says."""
    return decode_greeting(reply) if codec == "json" else HelloReply.FromString(reply)
