"""Services in the memory world: what they take, how they are called, how they start and stop."""

from __future__ import annotations

import asyncio
import math
import signal
import subprocess
import sys
import textwrap
from abc import ABC, abstractmethod
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass
from typing import Any, TypedDict

import anyio
import attrs
import msgspec
import pydantic
import pytest

from micro_core import (
    BadRequest,
    Closed,
    ConfigError,
    Context,
    InternalError,
    LimitExceeded,
    Limits,
    Message,
    MicroError,
    Record,
    RegistryError,
    Service,
    Subscription,
    Timeout,
    current_context,
    endpoint,
    errors,
    idempotent,
)
from micro_core.builtin.memory.registry import MemoryRegistry
from micro_core.testing import world

pytestmark = pytest.mark.anyio


@dataclass
class Person:
    name: str


class PersonStruct(msgspec.Struct):
    name: str


class PersonDict(TypedDict):
    name: str


@attrs.define
class PersonAttrs:
    name: str


class PersonModel(pydantic.BaseModel):
    name: str


class Greeter:
    def __init__(self) -> None:
        self.cleaned = anyio.Event()

    @idempotent
    async def hello(self, request: Person) -> str:
        """Greet one person."""
        return f"Hello {request.name}"

    async def repeat(self, request: Person) -> AsyncIterator[str]:
        try:
            for _ in range(3):
                yield f"Hello {request.name}"
        finally:
            self.cleaned.set()

    async def for_ever(self, request: Person) -> AsyncIterator[int]:
        number = 0
        try:
            while True:
                yield number
                number += 1
        finally:
            self.cleaned.set()

    async def greet_all(self, requests: AsyncIterator[Person]) -> str:
        return "Hello " + ", ".join([request.name async for request in requests])

    async def chat(self, requests: AsyncIterator[Person]) -> AsyncIterator[str]:
        async for request in requests:
            if request.name == "nobody":
                raise errors.NotFound("no such person")
            yield f"Hello {request.name}"

    async def sleep(self, request: Person) -> None:
        try:
            await anyio.sleep_forever()
        finally:
            self.cleaned.set()


async def people(*names: str) -> AsyncIterator[Person]:
    for name in names:
        yield Person(name)


async def test_proxies_of_all_four_kinds() -> None:
    async with world() as here:
        service = here.service("greeter")
        service.handler(Greeter)
        async with service, here.client() as client:
            greeter = client.proxy("greeter", Greeter)
            assert await greeter.hello(Person("John")) == "Hello John"
            assert await greeter.hello(request=Person("John")) == "Hello John"
            assert [reply async for reply in greeter.repeat(Person("John"))] == ["Hello John"] * 3
            assert await greeter.greet_all(people("A", "B")) == "Hello A, B"
            assert [reply async for reply in greeter.chat(people("A", "B"))] == ["Hello A", "Hello B"]


async def test_an_iterator_that_raises_breaks_its_stream_with_its_own_error() -> None:
    async def breaks() -> AsyncIterator[Person]:
        yield Person("A")
        raise KeyError("mine")

    async with world() as here:
        service = here.service("greeter")
        service.handler(Greeter)
        async with service, here.client() as client:
            greeter = client.proxy("greeter", Greeter)
            with pytest.raises(KeyError, match="mine"):
                await greeter.greet_all(breaks())
            with pytest.raises(KeyError, match="mine"):
                assert [reply async for reply in greeter.chat(breaks())]


async def test_a_proxy_of_an_abstract_class_and_of_other_parameter_names() -> None:
    class Api(ABC):
        @endpoint(name="Greeter.Hello")
        @abstractmethod
        async def hello(self, context: Context | None, person: Person) -> str: ...

    async with world() as here:
        service = here.service("greeter")
        service.handler(Greeter)
        async with service, here.client() as client:
            api = client.proxy("greeter", Api)
            assert await api.hello(None, Person("John")) == "Hello John"
            assert await api.hello(None, person=Person("John")) == "Hello John"


async def test_an_error_in_mid_stream_ends_it() -> None:
    async with world() as here:
        service = here.service("greeter")
        service.handler(Greeter)
        async with service, here.client() as client:
            received = []
            chat = client.proxy("greeter", Greeter).chat(people("A", "nobody", "B"))
            received.append(await anext(chat))
            with pytest.raises(errors.NotFound, match="no such person") as raised:
                await anext(chat)
            assert received == ["Hello A"]
            assert (raised.value.service, raised.value.executed) == ("greeter", "yes")


async def test_a_caller_that_leaves_a_stream_ends_its_handler() -> None:
    greeter = Greeter()
    async with world() as here:
        service = here.service("greeter")
        service.handler(greeter)
        async with service, here.client() as client:
            async with client.stream("greeter", "Greeter.ForEver", int) as stream:
                await stream.send(Person("John"))
                assert await stream.receive() == 0
            with anyio.fail_after(5):
                await greeter.cleaned.wait()
            assert service._running is not None
            await service._running.drain()
            assert service._running.in_flight == 0


async def test_a_stream_to_a_unary_endpoint_and_a_call_of_a_stream() -> None:
    async with world() as here:
        service = here.service("greeter")
        service.handler(Greeter)
        async with service, here.client() as client:
            with pytest.raises(BadRequest, match=r"Greeter.Chat is a bidirectional endpoint: open it as a stream"):
                await client.call("greeter", "Greeter.Chat", Person("John"))
            with pytest.raises(BadRequest, match="name"):
                async with client.stream("greeter", "Greeter.Hello", str) as stream:
                    await stream.receive()


async def test_a_server_stream_without_its_argument_is_a_bad_request() -> None:
    async with world() as here:
        service = here.service("greeter")
        service.handler(Greeter)
        async with service, here.client() as client:
            async with client.stream("greeter", "Greeter.Repeat", str) as stream:
                await stream.close_send()
                with pytest.raises(BadRequest, match="ended before its argument") as raised:
                    await stream.receive()
            assert raised.value.executed == "no"


PAYLOADS: list[tuple[Any, Any]] = [
    (Person, Person("John")),
    (PersonStruct, PersonStruct("John")),
    (PersonDict, {"name": "John"}),
    (PersonAttrs, PersonAttrs("John")),
    (PersonModel, PersonModel(name="John")),
    (dict, {"a": [1, None]}),
    (list, [1, "two"]),
    (list[Person], [Person("John")]),
    (int, 3),
    (float, 0.5),
    (str, "text"),
    (bool, True),
    (bytes, b"\x00raw"),
    (None, None),
]


@pytest.mark.parametrize(("type", "value"), PAYLOADS, ids=lambda each: str(each)[:30])
async def test_every_type_of_payload_comes_and_goes(type: Any, value: Any) -> None:
    async def echo(request: Any) -> Any:
        return request

    echo.__annotations__ = {"request": type, "return": type}
    async with world() as here:
        service = here.service("echo")
        service.handler(echo)
        async with service, here.client() as client:
            assert await client.call("echo", "Echo.Echo", value, type) == value


async def test_no_request_at_all_is_an_empty_one() -> None:
    async def now() -> int:
        return 7

    async with world() as here:
        service = here.service("clock")
        service.handler(now)
        async with service, here.client() as client:
            assert await client.call("clock", "Clock.Now", None, int) == 7
            assert await client.call("clock", "Debug.Health", None, dict) == {"status": "ok"}


ERRORS = [
    errors.BadRequest,
    errors.Unauthorized,
    errors.Forbidden,
    errors.NotFound,
    errors.Timeout,
    errors.Conflict,
    errors.LimitExceeded,
    errors.Unavailable,
]


@pytest.mark.parametrize("kind", ERRORS)
async def test_every_error_reaches_the_caller_as_its_own_class(kind: type[MicroError]) -> None:
    async def fail() -> None:
        raise kind("what happened", id="who")

    async with world() as here:
        service = here.service("faults")
        service.handler(fail)
        async with service, here.client() as client:
            with pytest.raises(kind, match=r"^what happened$") as raised:
                await client.call("faults", "Faults.Fail", None)
            error = raised.value
            assert (error.id, error.executed, error.attempts, error.service) == ("who", "yes", 1, "faults")
            assert error.node == service.address


async def test_deadlines_errors_and_metadata_over_three_hops() -> None:
    seen: list[Context] = []

    async with world() as here:
        first, second, third = (here.service(name) for name in ("first", "second", "third"))

        @first.handler
        async def start(request: dict[str, Any], context: Context) -> Any:
            seen.append(context)
            context.propagate("X-Tenant")
            return await first.client.call("second", "Second.Middle", request)

        @second.handler
        async def middle(request: dict[str, Any]) -> Any:
            context = current_context()
            assert context is not None
            seen.append(context)
            return await second.client.call("third", "Third.Finish", request)

        @third.handler
        async def finish(request: dict[str, Any], *, context: Context | None = None) -> float:
            assert context is not None
            seen.append(context)
            if request:
                raise errors.Unavailable("try later", executed=errors.Executed.NO)
            return context.deadline - anyio.current_time()

        metadata = {"X-Tenant": "acme", "Traceparent": "00-1", "Authorization": "Bearer x", "X-Other": "1"}
        async with third, second, first, here.client("caller") as client:
            with anyio.fail_after(2):
                left = await client.call("first", "First.Start", {}, float, metadata=metadata)
            assert 1.5 < left <= 2
            assert (
                seen[0].deadline == pytest.approx(seen[1].deadline, abs=0.1) == pytest.approx(seen[2].deadline, abs=0.1)
            )
            assert [context.metadata.get("Traceparent") for context in seen] == ["00-1"] * 3
            assert [context.metadata.get("Micro-From-Service") for context in seen] == ["caller"] * 3
            assert [context.metadata.get("X-Tenant") for context in seen] == ["acme", "acme", None]
            assert [context.metadata.get("Authorization") for context in seen] == ["Bearer x", None, None]
            assert [context.metadata.get("X-Other") for context in seen] == ["1", None, None]
            with pytest.raises(errors.Unavailable, match="try later") as raised:
                await client.call("first", "First.Start", {"fail": True})
            assert raised.value.executed == "yes"
            assert raised.value.service == "first"


def test_what_is_for_one_hop_only_cannot_be_propagated() -> None:
    context = Context({})
    for name in ("authorization", "Timeout", "Local", "Remote", "Micro-Id"):
        with pytest.raises(ValueError, match="one hop only"):
            context.propagate(name, "x")


async def test_the_setting_propagate_carries_on_too_and_never_secrets(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MICRO_PROPAGATE", "x-tenant,authorization")
    async with world() as here:
        with pytest.raises(ConfigError, match=r"propagate: 'authorization' is for one hop only"):
            async with here.service("greeter"):
                pass


# What can be a handler


def refused(make: Callable[[Service], Any], match: str) -> None:
    with pytest.raises(ConfigError, match=match):
        make(Service("greeter"))


class Synchronous:
    def hello(self, request: Person) -> str:
        return ""


class NeedsArguments(Greeter):
    def __init__(self, database: object) -> None:
        super().__init__()


async def takes_three(request: Person, more: Person) -> None: ...


async def unknown_hint(request: Nowhere) -> None:  # type: ignore[name-defined]  # noqa: F821
    ...


async def promises_a_stream(request: Person) -> AsyncIterator[str]:  # type: ignore[empty-body]
    ...


def test_what_cannot_be_a_handler_is_refused_with_the_reason() -> None:
    refused(lambda service: service.handler(Synchronous), r"Synchronous.Hello is not `async def`")
    refused(lambda service: service.handler(NeedsArguments), r"NeedsArguments cannot be made without arguments")
    refused(lambda service: service.handler(takes_three), r"Greeter.TakesThree takes 'more' too")
    refused(lambda service: service.handler(unknown_hint), r"the type hint 'Nowhere' is not known")
    refused(lambda service: service.handler(promises_a_stream), r"give the answers with `yield`")
    refused(lambda service: [service.handler(Greeter), service.handler(Greeter)], r"'Greeter.Chat' is registered twice")
    refused(lambda service: service.handler(name="a.b")(Greeter), "of the form 'Type.Method'")
    refused(lambda service: service.subscriber("t")(Greeter().repeat), "a subscriber takes one message")


class Opaque:
    def __init__(self, *secrets: object) -> None: ...


async def test_types_that_no_codec_takes_stop_the_start_naming_the_endpoint() -> None:
    async def inspect(request: Opaque) -> None: ...

    inspect.__annotations__ = {"request": Opaque, "return": None}
    async with world() as here:
        service = here.service("greeter")
        service.handler(inspect)
        with pytest.raises(ConfigError, match=r"endpoint Greeter.Inspect of service 'greeter': no codec for Opaque"):
            async with service:
                pass


async def test_endpoints_are_described_with_their_options() -> None:
    class Base:
        async def inherited(self, request: Person) -> Person:
            return request

    class Named(Base):
        @endpoint(name="Renamed", metadata={"scope": "read"})
        async def method(self, request: Person) -> Person:
            return request

        @endpoint(internal=True)
        async def hidden(self) -> int:
            return 1

    async with world() as here:
        service = here.service("greeter", version="1.2", metadata={"zone": "a"})
        service.handler(Greeter)
        service.handler(name="Other", metadata={"team": "x"})(Named())

        @service.subscriber("greetings")
        async def on_greeting(message: Person) -> None: ...

        async with service, MemoryRegistry(network=here.network) as registry, here.client() as client:
            (record,) = await registry.lookup("greeter")
            listed = {each.name: dict(each.metadata) for each in record.endpoints}
            assert await client.call("greeter", "Other.Hidden", None, int) == 1
    assert record.version == "1.2"
    assert listed == {
        "Greeter.Chat": {"stream": "true"},
        "Greeter.ForEver": {"stream": "true"},
        "Greeter.GreetAll": {"stream": "true"},
        "Greeter.Hello": {"idempotent": "true", "description": "Greet one person."},
        "Greeter.Repeat": {"stream": "true"},
        "Greeter.Sleep": {},
        "Other.Inherited": {"team": "x"},
        "Other.Renamed": {"team": "x", "scope": "read"},
        "on_greeting": {"topic": "greetings", "subscriber": "true"},
    }
    (node,) = record.nodes
    assert node.id.startswith("greeter-")
    assert {"protocol": "mucp", "server": "mucp", "micro": "1", "zone": "a"}.items() <= node.metadata.items()


async def test_subscribers_with_and_without_a_queue_and_a_dead_letter() -> None:
    got: list[tuple[str, str]] = []
    dead = anyio.Event()

    async def bury(topic: str, message: Any, error: Exception) -> None:
        dead.set()

    async with world() as here:
        services = [here.service("worker") for _ in range(2)]
        for service in services:

            @service.subscriber("jobs", queue="workers")
            async def work(message: Person) -> None:
                got.append(("queue", message.name))

            @service.subscriber("jobs")
            async def watch(message: Person, context: Context) -> None:
                got.append((context.endpoint, message.name))

        @services[0].subscriber("bad", retries=0, dead_letter=bury)
        async def fail(message: Person) -> None:
            raise RuntimeError

        async with services[0], services[1], here.client() as client:
            await client.publish("jobs", Person("John"), confirm=True)
            await client.publish("bad", Person("John"))
            with anyio.fail_after(5):
                await dead.wait()
            assert await client.flush() == 0
            assert client.publish_stats().waiting == 0
    assert sorted(got) == [("jobs", "John"), ("jobs", "John"), ("queue", "John")]


# Its life


async def test_hooks_run_in_order_and_a_service_can_be_used_again() -> None:
    happened: list[str] = []
    async with world() as here:
        service = here.service("greeter", linger=0)

        @service.before_start
        def before() -> None:
            happened.append("before_start")

        @service.after_start
        async def started() -> None:
            happened.append(f"after_start {service.address == service.node.address}")

        service.before_stop(lambda: happened.append("before_stop"))
        service.after_stop(lambda: happened.append("after_stop"))
        assert repr(service) == "<Service greeter stopped, 0 handlers, 0 subscribers>"
        async with service:
            happened.append("body")
            with pytest.raises(Closed, match="running already"):
                await service.__aenter__()
            with pytest.raises(ConfigError, match="register handlers and subscribers before it starts"):
                service.handler(Greeter)
        with pytest.raises(Closed):
            assert service.address
        with pytest.raises(Closed):
            await service.client.call("greeter", "Debug.Health", None)
    assert happened == ["before_start", "after_start True", "body", "before_stop", "after_stop"]


async def test_a_user_s_exception_leaves_with_its_own_type() -> None:
    async with world() as here:
        with pytest.raises(KeyError, match="mine"):
            async with here.service("greeter", linger=0), here.client():
                raise KeyError("mine")


async def test_an_address_in_use_is_one_plain_error() -> None:
    async with world() as here, here.service("one", linger=0) as one:
        with pytest.raises(ConfigError, match="in use"):
            async with here.service("two", address=one.address):
                pass


@pytest.mark.parametrize("name", ["linger", "drain_timeout"])
@pytest.mark.parametrize("seconds", [-1, math.inf, math.nan, "1"])
def test_a_stop_that_never_ends_is_refused(name: str, seconds: Any) -> None:
    with pytest.raises(ConfigError, match=rf"{name}=.* of service 'greeter' is not valid: seconds, not less than 0"):
        Service("greeter", **{name: seconds})


async def test_limits_and_patience_come_from_settings_and_from_code(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MICRO_LIMIT_BODY", "2000")
    async with world() as here:
        service = here.service("greeter", limits=Limits(body=100, calls=7), linger=0)

        @service.handler
        async def size(text: str) -> int:
            return len(text)

        async with service, here.client() as client:
            assert await client.call("greeter", "Greeter.Size", "x" * 1900, int) == 1900
            with pytest.raises(LimitExceeded):
                await client.call("greeter", "Greeter.Size", "x" * 2100, int)


async def test_a_stop_waits_for_calls_as_long_as_the_setting_says(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setenv("MICRO_DRAIN_TIMEOUT", "50ms")
    monkeypatch.setenv("MICRO_LINGER", "0")
    begun, ended = anyio.Event(), []
    async with world() as here:
        service = here.service("greeter", drain_timeout=60, linger=60)

        @service.handler
        async def wait(text: str) -> None:
            begun.set()
            try:
                await anyio.sleep_forever()
            finally:
                ended.append(text)

        async def call() -> None:
            with pytest.raises(MicroError):
                await client.call("greeter", "Greeter.Wait", "x", timeout=60)

        async with here.client() as client, anyio.create_task_group() as tasks:
            async with service:
                tasks.start_soon(call)
                await begun.wait()
                stopping = anyio.current_time()
            assert anyio.current_time() - stopping < 30
    assert ended == ["x"]
    assert "1 calls were not done after 0.05 s" in caplog.text


@pytest.mark.parametrize("option", [{"concurrency": 1.5}, {"concurrency": 0}, {"retries": -1}, {"retries": "3"}])
def test_a_subscriber_that_cannot_be_is_refused(option: dict[str, Any]) -> None:
    async def work(person: Person) -> None: ...

    with pytest.raises(ConfigError, match=r"of topic 'jobs' is not valid: a whole number from "):
        Service("greeter").subscriber("jobs", **option)(work)
    with pytest.raises(ConfigError, match=r"of topic 'jobs' is not valid: a whole number from "):
        Subscription(topic="jobs", handler=ignore, **option)


async def ignore(topic: str, message: Message) -> None: ...


@pytest.mark.parametrize(
    "limit", [{"body": -1}, {"calls": 0}, {"headers": 1.5}, {"header_seconds": 0}, {"idle_seconds": math.nan}]
)
def test_limits_that_nobody_could_keep_to_are_refused(limit: dict[str, Any]) -> None:
    (name,) = limit
    with pytest.raises(ConfigError, match=rf"Limits\({name}=.*\) is not valid: "):
        Limits(**limit)


async def test_a_stopping_service_deregisters_first_and_finishes_its_calls() -> None:
    released, answered = anyio.Event(), []
    async with world() as here:
        service = here.service("greeter", linger=0)

        @service.handler
        async def wait() -> str:
            started.set()
            await released.wait()
            return "done"

        started = anyio.Event()
        async with here.client() as client, anyio.create_task_group() as tasks:
            async with service:

                async def ask() -> None:
                    answered.append(await client.call("greeter", "Greeter.Wait", None, str))

                tasks.start_soon(ask)
                await started.wait()
                address = service.address
                await client.call("greeter", "Debug.Health", None, address=address)  # this connection stays
                running = service._running
                assert running is not None

                async def late() -> None:
                    async with MemoryRegistry(network=here.network) as registry:
                        while await registry.lookup("greeter"):
                            await anyio.wait_all_tasks_blocked()
                    while "draining" not in repr(running):
                        await anyio.wait_all_tasks_blocked()
                    with pytest.raises(Timeout, match="is stopping") as raised:
                        await client.call("greeter", "Greeter.Wait", None, str, address=address, retries=0)
                    assert raised.value.executed == "no"
                    released.set()

                tasks.start_soon(late)
    assert answered == ["done"]
    assert running is not None
    assert running.in_flight == 0


class DownRegistry(MemoryRegistry):
    down = True

    def __init__(self, **options: Any) -> None:
        super().__init__(**options)
        self.registered = 0
        self.often = anyio.Event()

    async def register(self, record: Record, *, ttl: float = 60.0) -> None:
        if self.down:
            raise RegistryError("connection refused")
        await super().register(record, ttl=ttl)
        self.registered += 1
        if self.registered == 3:
            self.often.set()


async def test_a_service_starts_while_its_registry_is_down_and_registers_again_and_again(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("MICRO_REGISTER_INTERVAL", "10ms")
    async with world() as here:
        registry = DownRegistry(network=here.network)
        async with here.service("greeter", registry=registry, linger=0), here.client() as client:
            registry.down = False
            with anyio.fail_after(5):
                assert await client.call("greeter", "Debug.Health", None, dict, timeout=5) == {"status": "ok"}
                await registry.often.wait()


PROGRAM = """
    import sys
    from micro_core import Service
    service = Service("greeter", registry="memory", transport="memory", broker="memory", linger=0)
    service.after_start(lambda: print("started", flush=True))
    service.after_stop(lambda: print("stopped", flush=True))
    {more}
    service.run(backend="{backend}")
"""


def start(backend: str, *flags: str, more: str = "") -> subprocess.Popen[str]:
    program = textwrap.dedent(PROGRAM).format(backend=backend, more=more)
    command = [sys.executable, "-W", "error", "-c", program, *flags]
    return subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)


def line_of(process: subprocess.Popen[str]) -> str:
    assert process.stdout is not None
    return process.stdout.readline()


@pytest.fixture(params=["asyncio", "trio"])
def backend(request: pytest.FixtureRequest) -> str:
    return str(request.param)


def test_sigterm_stops_a_process_in_order(backend: str) -> None:
    with start(backend) as process:
        assert line_of(process) == "started\n"
        process.send_signal(signal.SIGTERM)
        out, _ = process.communicate(timeout=20)
    assert out == "stopped\n"
    assert process.returncode == 0


def test_a_second_signal_stops_a_process_at_once(backend: str) -> None:
    slow = "import anyio; service.before_stop(lambda: (print('stopping', flush=True), anyio.sleep(60))[1])"
    with start(backend, more=slow) as process:
        assert line_of(process) == "started\n"
        process.send_signal(signal.SIGTERM)
        assert line_of(process) == "stopping\n"
        process.send_signal(signal.SIGINT)
        out, _ = process.communicate(timeout=20)
    assert out == "stopped\n"
    assert process.returncode == 0


def test_a_signal_before_anything_is_served_stops_a_process_at_once(backend: str) -> None:
    endless = "import anyio; service.before_start(lambda: (print('starting', flush=True), anyio.sleep(60))[1])"
    with start(backend, more=endless) as process:
        assert line_of(process) == "starting\n"
        process.send_signal(signal.SIGTERM)
        out, _ = process.communicate(timeout=20)
    assert out == "stopped\n"
    assert process.returncode == 0


def test_a_wrong_setting_ends_a_process_with_one_sentence(backend: str) -> None:
    with start(backend, "--register_ttl=soon") as process:
        out, err = process.communicate(timeout=20)
    assert (out, process.returncode) == ("", 1)
    assert err.count("\n") == 1
    assert "soon" in err
    assert "--register_ttl" in err


async def test_a_handler_s_unexpected_error_is_masked_with_a_reference(caplog: pytest.LogCaptureFixture) -> None:
    async def fail() -> None:
        raise RuntimeError("secret")

    async with world() as here:
        service = here.service("faults")
        service.handler(fail)
        async with service, here.client() as client:
            with pytest.raises(InternalError, match=r"^internal error, reference [0-9a-f]{8}$") as raised:
                await client.call("faults", "Faults.Fail", None)
    assert raised.value.detail.rpartition(" ")[2] in caplog.text
    assert "secret" in caplog.text


STRAYS = {
    "SystemExit": SystemExit(5),
    "GeneratorExit": GeneratorExit(),
    "BaseException": BaseException("odd"),
    "a group": BaseExceptionGroup("odd", [SystemExit(1)]),
    "a cancellation that strayed": asyncio.CancelledError(),
}


@pytest.mark.parametrize("name", STRAYS)
async def test_whatever_a_subscriber_raises_is_one_failed_message(name: str) -> None:
    handled: list[str] = []
    buried: list[Exception] = []

    async def bury(topic: str, message: Any, error: Exception) -> None:
        buried.append(error)

    async with world() as here:
        service = here.service("worker")

        @service.subscriber("jobs", retries=1, dead_letter=bury)
        async def work(message: Person) -> None:
            handled.append(message.name)
            if message.name == "odd":
                raise STRAYS[name]

        async with service, here.client() as client:
            with anyio.fail_after(10):
                await client.publish("jobs", Person("odd"), confirm=True)
                await client.publish("jobs", Person("John"), confirm=True)
    assert handled == ["odd", "odd", "John"]
    assert type(STRAYS[name]).__name__ in str(buried[0])


@pytest.mark.parametrize(("service", "endpoint"), [(1, "Greeter.Hello"), ("greeter", 5)])
async def test_names_that_are_no_texts_are_refused(service: Any, endpoint: Any) -> None:
    async with world() as here, here.client() as client:
        with pytest.raises(BadRequest, match="is no text, but of type int"):
            await client.call(service, endpoint, {})
        with pytest.raises(errors.PublishError, match="topic 5 is no text, but of type int"):
            await client.publish(5, {})  # type: ignore[call-overload]
