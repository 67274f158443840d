"""The core's own codecs keep what every codec promises."""

from micro_conformance import CodecConformance


class TestJson(CodecConformance):
    plugin = "json"


class TestBytes(CodecConformance):
    plugin = "bytes"
    missing = {"framing": "bytes are bytes", "dataclasses": "bytes are bytes"}
