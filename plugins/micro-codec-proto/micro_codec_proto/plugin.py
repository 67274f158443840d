"""The entry point: what `make_codec` gives to the host."""

from __future__ import annotations

import os
import sys
from collections.abc import Sequence
from importlib.util import find_spec

from micro_codec_proto._json import ProtoJsonCodec
from micro_codec_proto._proto import ProtoCodec, ProtoRpcCodec
from micro_core import Codec, PluginError, hookimpl

__all__ = ["make_codec"]


@hookimpl
def make_codec() -> Sequence[Codec]:
    """Return the codecs for protobuf messages: protobuf, JSON, and the envelope of legacy peers.

    Raises `PluginError` on protobuf's pure-Python implementation, which is slow beyond use and bounds less.
    """
    if _is_pure_python():
        raise PluginError(
            "protobuf runs on its pure-Python implementation here, and micro-codec-proto needs the one in C (upb); "
            "unset PROTOCOL_BUFFERS_PYTHON_IMPLEMENTATION, or install a wheel of protobuf for this platform"
        )
    return [ProtoCodec(), ProtoRpcCodec(), ProtoJsonCodec()]


def _is_pure_python() -> bool:
    """Tell which implementation protobuf runs on, or would if it were imported."""
    loaded = sys.modules.get("google.protobuf.internal.api_implementation")
    if loaded is not None:
        return bool(loaded.Type() == "python")
    return (
        os.environ.get("PROTOCOL_BUFFERS_PYTHON_IMPLEMENTATION") == "python"
        or find_spec("google._upb._message") is None
    )
