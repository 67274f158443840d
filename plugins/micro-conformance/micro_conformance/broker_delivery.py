"""What brokers owe to a message whose handler fails: attempts, dead letters, and peace for its neighbours."""

from __future__ import annotations

from contextvars import ContextVar

import anyio

from micro_conformance.broker_ends import BrokerSuite, Inbox
from micro_conformance.suite import promise
from micro_core import Capability, Delivery, Message, Reject, Requeue, Subscription

__all__ = ["DeliveryPromises"]

request: ContextVar[str] = ContextVar("request", default="none")


class DeliveryPromises(BrokerSuite):
    """The promises about attempts and their end."""

    @promise(needs="retries")
    async def test_a_message_whose_handler_fails_is_handled_again(self) -> None:
        inbox = Inbox(failures=2)
        async with self.broker() as here, self.broker() as there, there.subscribe(self.to(inbox, retries=2)):
            await here.publish(self.topic, Message({}, b"one"))
            await inbox.got(3)
        assert inbox.bodies == [b"one"] * 3

    @promise(needs="retries")
    async def test_a_message_that_is_handled_again_keeps_the_names_of_its_publisher(self) -> None:
        inbox = Inbox(failures=1)
        async with self.broker() as here, self.broker() as there, there.subscribe(self.to(inbox, retries=1)):
            await here.publish(self.topic, Message({}, b"one"))
            await inbox.got(2)
        assert [message.peer for _, message in inbox.messages] == [self.publisher] * 2

    @promise(needs="retries")
    async def test_a_message_is_retried_as_often_as_asked_for_and_no_more(self) -> None:
        inbox = Inbox(failures=100)
        async with self.broker() as here, self.broker() as there, there.subscribe(self.to(inbox, retries=1)):
            await here.publish(self.topic, Message({}, b"one"))
            await inbox.got(2)
            await anyio.sleep(0.5)
        assert len(inbox.bodies) == 2

    @promise(needs="retries")
    async def test_a_message_that_fails_every_time_is_a_dead_letter(self) -> None:
        dead: list[tuple[str, bytes, str]] = []
        buried = anyio.Event()

        async def bury(topic: str, message: Message, error: Exception) -> None:
            dead.append((topic, message.body, str(error)))
            buried.set()

        inbox = Inbox(failures=100)
        wanted = self.to(inbox, retries=0, dead_letter=bury)
        async with self.broker() as here, self.broker() as there, there.subscribe(wanted):
            await here.publish(self.topic, Message({}, b"one"))
            await buried.wait()
        assert dead == [(self.topic, b"one", "it shall fail")]

    @promise(needs="retries")
    async def test_a_dead_letter_counts_as_handled(self) -> None:
        async def bury(topic: str, message: Message, error: Exception) -> None:
            pass

        wanted = self.to(Inbox(failures=100), retries=0, dead_letter=bury)
        async with self.broker() as here, self.broker() as there, there.subscribe(wanted):
            self.needs(here, Capability.HANDLED)
            await here.publish(self.topic, Message({}, b"one"), confirm="handled")
            assert here.stats().dropped == 0

    @promise()
    async def test_a_message_that_fails_stops_none_behind_it(self) -> None:
        inbox = Inbox(failures=1)
        async with self.broker() as here, self.broker() as there, there.subscribe(self.to(inbox, retries=0)):
            await here.publish(self.topic, Message({}, b"bad"))
            await here.publish(self.topic, Message({}, b"good"))
            await inbox.got(2)
        assert inbox.bodies == [b"bad", b"good"]

    @promise(needs="retries")
    async def test_the_pauses_between_attempts_are_those_asked_for(self) -> None:
        inbox, times = Inbox(failures=2), list[float]()

        async def handle(topic: str, message: Message) -> None:
            times.append(anyio.current_time())
            await inbox.handle(topic, message)

        wanted = self.to(inbox, handler=handle, retries=4, backoff=(0.05, 0.4))
        async with self.broker() as here, self.broker() as there, there.subscribe(wanted):
            await here.publish(self.topic, Message({}, b"one"))
            await inbox.got(3)
        assert times[2] - times[1] > 0.35

    @promise(needs="retries")
    async def test_a_poison_message_takes_no_neighbour_along(self) -> None:
        dead, sent = list[bytes](), [b"good %d" % number for number in range(9)]
        sent[4] = b"bad"
        handled: dict[bytes, int] = dict.fromkeys(sent, 0)
        all_came = anyio.Event()

        async def handle(topic: str, message: Message) -> None:
            handled[message.body] += 1
            if message.body == b"bad":
                raise RuntimeError("it shall fail")
            if message.body == sent[-1]:
                all_came.set()

        async def bury(topic: str, message: Message, error: Exception) -> None:
            dead.append(message.body)

        wanted = self.to(Inbox(), handler=handle, retries=4, backoff=0.01, dead_letter=bury)
        async with self.broker() as here, self.broker() as there, there.subscribe(wanted):
            for body in sent:
                await here.publish(self.topic, Message({}, body))
            await all_came.wait()
            await here.flush()
            await anyio.sleep(0.1)
        assert (dead, handled) == ([b"bad"], {**dict.fromkeys(sent, 1), b"bad": 5})

    @promise(needs="retries")
    async def test_a_dead_letter_hook_that_raises_is_called_again(self) -> None:
        calls, buried, inbox = list[bytes](), anyio.Event(), Inbox(failures=100)

        async def bury(topic: str, message: Message, error: Exception) -> None:
            calls.append(message.body)
            if len(calls) < 3:
                raise RuntimeError("the disk is full")
            buried.set()

        wanted = self.to(inbox, retries=0, backoff=0.01, dead_letter=bury)
        async with self.broker() as here, self.broker() as there, there.subscribe(wanted):
            await here.publish(self.topic, Message({}, b"one"))
            await buried.wait()
        assert (calls, inbox.bodies) == ([b"one"] * 3, [b"one"])

    @promise(needs="retries")
    async def test_dead_letters_go_to_a_topic_where_one_is_named(self) -> None:
        dead, graves = Inbox(), f"{self.topic}-dead"
        wanted = self.to(Inbox(failures=100), retries=0, dead_letter=graves)
        async with self.broker() as here, self.broker() as there, self.broker() as elsewhere:
            async with elsewhere.subscribe(Subscription(topic=graves, handler=dead.handle)), there.subscribe(wanted):
                await here.publish(self.topic, Message({b"Kept": b"1"}, b"one"))
                topic, message = await dead.got()
        assert (topic, message.body, message.headers.get(b"Kept")) == (graves, b"one", b"1")
        assert message.headers.get(b"Micro-Dead-Topic") == self.topic.encode()
        assert b"it shall fail" in message.headers.get(b"Micro-Dead-Error", b"")

    @promise(needs="retries")
    async def test_a_message_that_is_rejected_is_a_dead_letter_at_once(self) -> None:
        attempts, buried = list[bytes](), anyio.Event()

        async def reject(topic: str, message: Message) -> None:
            attempts.append(message.body)
            raise Reject("it makes no sense")

        async def bury(topic: str, message: Message, error: Exception) -> None:
            buried.set()

        wanted = self.to(Inbox(), handler=reject, retries=3, backoff=0.01, dead_letter=bury)
        async with self.broker() as here, self.broker() as there, there.subscribe(wanted):
            await here.publish(self.topic, Message({}, b"one"))
            await buried.wait()
        assert attempts == [b"one"]

    @promise(needs="retries")
    async def test_a_message_that_its_handler_wants_again_comes_when_asked_for_and_holds_up_nobody(self) -> None:
        came: list[tuple[bytes, float]] = []
        again = anyio.Event()

        async def handle(topic: str, message: Message) -> None:
            came.append((message.body, anyio.current_time()))
            if [body for body, _ in came].count(b"later") == 2:
                again.set()
            elif message.body == b"later":
                raise Requeue(after=0.5)

        async with self.broker() as here, self.broker() as there:
            async with there.subscribe(self.to(Inbox(), handler=handle, retries=1)):
                await here.publish(self.topic, Message({}, b"later"))
                await here.publish(self.topic, Message({}, b"other"))
                await again.wait()
        assert [body for body, _ in came] == [b"later", b"other", b"later"]
        assert came[2][1] - came[0][1] > 0.45

    @promise(needs="retries")
    async def test_a_message_that_is_wanted_again_for_ever_is_a_dead_letter_in_the_end(self) -> None:
        attempts, buried = list[bytes](), anyio.Event()

        async def handle(topic: str, message: Message) -> None:
            attempts.append(message.body)
            raise Requeue(after=0.01)

        async def bury(topic: str, message: Message, error: Exception) -> None:
            buried.set()

        wanted = self.to(Inbox(), handler=handle, retries=4, dead_letter=bury)
        async with self.broker() as here, self.broker() as there, there.subscribe(wanted):
            await here.publish(self.topic, Message({}, b"one"))
            await buried.wait()
        assert attempts == [b"one"] * 5

    @promise(needs="retries")
    async def test_a_message_tells_its_id_its_attempt_and_whether_it_came_before(self) -> None:
        inbox = Inbox(failures=1)
        async with self.broker() as here, self.broker() as there:
            async with there.subscribe(self.to(inbox, retries=1, backoff=0.01)):
                await here.publish(self.topic, Message({}, b"one"))
                await here.publish(self.topic, Message({}, b"two"))
                await inbox.got(3)
        facts = {message.body: list[Delivery | None]() for _, message in inbox.messages}
        for _, message in inbox.messages:
            facts[message.body].append(message.delivery)
        first, again = facts[b"one"]
        (two,) = facts[b"two"]
        assert first is not None
        assert again is not None
        assert two is not None
        assert (first.attempt, first.redelivered, two.attempt) == (1, False, 1)
        assert (again.attempt, again.redelivered) == (2, True)
        assert first.id == again.id
        assert first.id != two.id
        assert all((first.id, two.id))

    @promise()
    async def test_a_handler_sees_nothing_of_the_context_of_whoever_publishes(self) -> None:
        seen: list[str] = []
        inbox = Inbox()

        async def handle(topic: str, message: Message) -> None:
            seen.append(request.get())
            await inbox.handle(topic, message)

        async with self.broker() as here, self.broker() as there:
            async with there.subscribe(self.to(inbox, handler=handle)):
                for name in ("first", "second"):
                    token = request.set(name)
                    await here.publish(self.topic, Message({}, b""))
                    request.reset(token)
                await inbox.got(2)
        assert seen == ["none", "none"]
