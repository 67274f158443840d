"""Who answers 40 ms later than others is still one of them: on a wire that takes so long."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from harness.network import Network, Program
from harness.wire import Wire

PARTY = str(Path(__file__).with_name("slow_party.py"))
TIMES = 3
"""Each is tried so often: a first answer is a race that the slow one might win by luck."""


def start(host: Network, *arguments: str) -> Program:
    return host.start(
        sys.executable, "-W", "error", PARTY, *arguments, MICRO_BROKER="http://:0", MICRO_SERVER_ADDRESS=":0"
    )


@pytest.fixture
def greeters(wire: Wire) -> tuple[Program, Program]:
    """Return a near greeter of version 1 and one of version 2 whose answers take 40 ms."""
    wire.delay(0.02)
    near, far = start(wire.near, "serve", "greeter", "1"), start(wire.far, "serve", "greeter", "2")
    for greeter in (near, far):
        assert greeter.line() == "ready"
    return near, far


def test_a_first_message_reaches_every_subscriber(wire: Wire, greeters: tuple[Program, Program]) -> None:
    for _ in range(TIMES):
        assert start(wire.near, "publish", "news").output() == "published\n"
    assert [greeter.finished() for greeter in greeters] == ["heard today\n" * TIMES] * 2


def test_a_filter_finds_the_version_that_answers_late(wire: Wire, greeters: tuple[Program, Program]) -> None:
    for _ in range(TIMES):
        assert start(wire.near, "call", "greeter", "2").output() == "2\n"


def test_a_plain_call_goes_to_the_first_that_answers(wire: Wire, greeters: tuple[Program, Program]) -> None:
    wire.delay(0.2)
    assert start(wire.near, "call", "greeter").output() == "1\n"


def test_a_listing_is_whole(wire: Wire, greeters: tuple[Program, Program]) -> None:
    for _ in range(TIMES):
        listed = start(wire.near, "list").output().splitlines()
        assert "greeter 1x1 2x1" in listed
        assert [line for line in listed if "broker" in line] == [
            "go.micro.http.broker ff.http.broadcastx2",
            "micro.http.broker ff.http.broadcastx2",
        ]


def test_a_wire_that_is_cut_tells_a_name_that_was_known_from_one_that_was_not(
    wire: Wire, greeters: tuple[Program, Program]
) -> None:
    wire.cut()
    assert start(wire.near, "call", "greeter", "2").output().startswith("NoNode: none of the 1 nodes of 'greeter'")
    wire.heal()
    assert start(wire.near, "call", "greeter", "2").output() == "2\n"
