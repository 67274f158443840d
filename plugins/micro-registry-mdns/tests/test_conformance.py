"""The promises that every registry makes, on the loopback interface."""

from collections.abc import Mapping
from typing import ClassVar

import pytest

pytest.importorskip("micro_conformance")

from micro_conformance import RegistryConformance


class OverMulticast(RegistryConformance):
    ttl = 1.0  # a look-up listens for a quarter of a second


class TestBothDialects(OverMulticast):
    plugin = "mdns"
    options = {"interface": "127.0.0.1"}
    unreachable_options: ClassVar[Mapping[str, str]] = {"interface": "198.51.100.7"}


class TestGoMicro(OverMulticast):
    plugin = "mdns"
    options = {"interface": "127.0.0.1", "dialects": "gomicro"}
    unreachable_options: ClassVar[Mapping[str, str]] = {"interface": "198.51.100.7"}


class TestDnsSd(OverMulticast):
    plugin = "mdns"
    options = {"interface": "127.0.0.1", "dialects": "dns-sd"}
    unreachable_options: ClassVar[Mapping[str, str]] = {"interface": "198.51.100.7"}
