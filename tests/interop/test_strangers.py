"""Programs that nobody here wrote, unchanged: the command line of 2019, and the published examples."""

from __future__ import annotations

import json
import re
import sys
from contextlib import ExitStack
from pathlib import Path

import pytest

from harness.network import Network, Program, lan

EXAMPLES = Path(__file__).parent.parent.parent / "examples"
AT_HERE = {"MICRO_SERVER_ADDRESS": "10.99.0.1:0", "MICRO_BROKER_ADDRESS": "10.99.0.1:0"}


@pytest.fixture
def hosts(tmp_path: Path, stack: ExitStack) -> list[Network]:
    return lan(tmp_path, stack, 2)


def python(host: Network, script: str, **environment: str) -> Program:
    return host.start(sys.executable, "-u", str(EXAMPLES / script), **environment)


def registered(program: Program) -> Program:
    """Wait until a service has logged that it serves, or a Go one that it registers."""
    program.logged(" serves at |Registering node")
    return program


def test_the_command_line_of_2019_works_with_a_python_service(hosts: list[Network], programs: Path) -> None:
    here, there = hosts
    greeter = registered(python(here, "greeter/greeter.py", **AT_HERE))

    def micro(*arguments: str) -> str:
        return there.start(str(programs / "micro"), *arguments).output()

    assert "greeter" in micro("list", "services").splitlines()
    described = micro("get", "service", "greeter")
    assert re.search(r"greeter-\w+\t10\.99\.0\.1:\d+\t", described)
    assert "protocol=mucp" in described
    assert "Endpoint: Greeter.Hello" in described
    assert json.loads(micro("call", "greeter", "Greeter.Hello", '{"name":"John"}')) == {"greeting": "Hello John"}
    assert micro("stream", "greeter", "Greeter.Repeat", '{"name":"John"}').count("Hello John") == 3
    assert re.search(r"10\.99\.0\.1:\d+\s+ok", micro("health", "check", "greeter"))
    assert re.search(r":\d+\s+\w{3} \d+ \d\d:\d\d:\d\d\t\d+s\t\d+\.\d+mb\t[1-9]", micro("stats", "greeter"))
    assert "ok" in micro("publish", "greetings", '{"name":"Joan"}')
    assert greeter.line() == "Joan"


def test_a_python_greeter_answers_the_published_client(hosts: list[Network], programs: Path) -> None:
    registered(python(hosts[0], "go_micro/greeter_srv.py", **AT_HERE))
    assert "Hello John" in hosts[1].start(str(programs / "greeter-cli")).output()


def test_a_python_client_calls_the_published_greeter(hosts: list[Network], programs: Path) -> None:
    registered(hosts[0].start(str(programs / "greeter-srv")))
    assert python(hosts[1], "go_micro/greeter_cli.py").output() == "Hello John\n"


STREAMED = [f"Sent msg {n} got msg {n}" for n in range(10)] + [f"got msg {n}" for n in range(10)]


def test_a_python_stream_server_answers_the_published_client(hosts: list[Network], programs: Path) -> None:
    registered(python(hosts[0], "go_micro/stream_server.py", **AT_HERE))
    assert hosts[1].start(str(programs / "stream-client")).output().splitlines() == STREAMED


def test_a_python_stream_client_calls_the_published_server(hosts: list[Network], programs: Path) -> None:
    registered(hosts[0].start(str(programs / "stream-server")))
    assert python(hosts[1], "go_micro/stream_client.py").output().splitlines() == STREAMED


def test_a_python_subscriber_takes_what_the_published_program_publishes(hosts: list[Network], programs: Path) -> None:
    subscriber = registered(python(hosts[0], "go_micro/pubsub_srv.py", **AT_HERE))
    hosts[1].start(str(programs / "pubsub-cli"))
    lines = {subscriber.line(), subscriber.line()}
    assert {line[:34] for line in lines} == {f"[pubsub.{n}] Received event Messagin" for n in (1, 2)}


def test_the_published_subscriber_takes_what_python_publishes(hosts: list[Network], programs: Path) -> None:
    subscriber = hosts[0].start(str(programs / "pubsub-srv"))
    for number in (1, 2):
        subscriber.logged(rf"to topic: example\.topic\.pubsub\.{number}")
    assert python(hosts[1], "go_micro/pubsub_cli.py").output() == ""
    for number in (1, 2):
        subscriber.logged(rf"\[pubsub\.{number}\] Received event .*Messaging you all day")
