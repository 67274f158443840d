"""The json-rpc envelope of legacy peers, spliced round JSON that stays as it is (docs/wire.md §3.5)."""

from __future__ import annotations

import msgspec

from micro_core.builtin.json.reader import json_reader
from micro_core.codec import Framing
from micro_core.errors import DecodeError

__all__ = ["JsonRpcFraming"]

_NULL = b"null"
_LAST_ID = 2**64 - 1


class _JsonRpcRequest(msgspec.Struct):
    method: str = ""
    params: tuple[msgspec.Raw, ...] | None = None
    id: str | int | None = None


class _Reply(msgspec.Struct):
    id: str | int | None = None
    result: msgspec.Raw = msgspec.Raw()
    error: str | None = None


_read_request = json_reader(msgspec.json.Decoder(_JsonRpcRequest).decode)
_read_reply = json_reader(msgspec.json.Decoder(_Reply).decode)


class JsonRpcFraming(Framing):
    """``{"method", "params", "id"}`` round an argument, ``{"id", "result", "error"}`` round a value."""

    def pack_request(self, endpoint: str, id: int, body: bytes) -> bytes:
        return b'{"method":%s,"params":[%s],"id":"%d"}\n' % (_text(endpoint), body or _NULL, id)

    def unpack_request(self, message: bytes) -> tuple[str, int, bytes]:
        request: _JsonRpcRequest = _read_request(message)
        body = bytes(request.params[0]) if request.params else b""
        return request.method, _number(request.id), body

    def pack_reply(self, endpoint: str, id: int, body: bytes, error: str) -> bytes:
        if error:
            return b'{"id":"","result":null,"error":%s}\n' % _text(error)
        return b'{"id":"%d","result":%s,"error":null}\n' % (id, body or _NULL)

    def unpack_reply(self, message: bytes) -> tuple[int, bytes, str]:
        reply: _Reply = _read_reply(message)
        return _number(reply.id), b"" if reply.error else bytes(reply.result), reply.error or ""


def _text(text: str) -> bytes:
    return msgspec.json.encode(text.encode(errors="replace").decode())


def _number(id: object) -> int:
    """Return an id as the number that it is; errors have an empty one."""
    if not id:
        return 0
    text = str(id)
    if not (text.isascii() and text.isdigit() and len(text) <= 20 and int(text) <= _LAST_ID):
        raise DecodeError("field 'id': expected a decimal number")
    return int(text)
