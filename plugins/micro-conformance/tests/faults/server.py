"""One broken server for each promise; the table's key is the promise that alone catches it."""

import math
from contextlib import asynccontextmanager

import anyio
from msgspec.structs import replace

from micro_conformance import ServerConformance
from micro_core import (
    BadRequest,
    Conflict,
    ConnectionLost,
    HandlerKind,
    Head,
    InternalError,
    Message,
    NotFound,
    Request,
    Stream,
    Unavailable,
)
from micro_core.builtin.rpc.server import RpcServer


class Faulty(RpcServer):
    """A server whose requests, handlers and events can be tampered with on their way."""

    def serve(self, service, address, handlers, on_event, limits):
        handlers = dict(handlers)
        self.change(handlers)

        async def changed(topic, message, context):
            await on_event(topic, self.on_message(message), context)

        return super().serve(service, address, handlers, changed, limits)

    def change(self, handlers):
        pass

    def on_message(self, message):
        return message


class Tapped(Faulty):
    """Hands the listener's requests over as `on_request` gives them."""

    def __init__(self, *, transport, codecs, middleware=(), guards=()):
        super().__init__(transport=transport, codecs=codecs, middleware=middleware, guards=guards)
        self._transport = Tap(transport, self.on_request)


class Tap:
    def __init__(self, transport, on_request):
        self.transport, self.on_request = transport, on_request
        self.name, self.metadata = transport.name, transport.metadata

    def listen(self, address, receive, limits):
        return self.transport.listen(address, lambda request: receive(self.on_request(request)), limits)


class SaysNoProtocol(RpcServer):
    @property
    def metadata(self):
        return {"transport": self._transport.name}


class OtherReply(Faulty):
    def change(self, handlers):
        good = handlers["Work.Hello"]

        async def hello(context, name):
            return await good.function(context, name.upper())

        handlers[good.name] = replace(good, function=hello)


class NotFoundCountsAsExecuted(Faulty):
    def change(self, handlers):
        async def nothing(context, text):
            raise NotFound("no such endpoint")

        handlers["Work.Nothing"] = replace(handlers["Work.Echo"], name="Work.Nothing", function=nothing)


class ErrorsLoseTheirClass(Faulty):
    def change(self, handlers):
        good = handlers["Work.Taken"]

        async def taken(context, text):
            try:
                return await good.function(context, text)
            except Conflict as error:
                raise BadRequest(error.detail) from error

        handlers[good.name] = replace(good, function=taken)


class DetailsStay(Faulty):
    def change(self, handlers):
        good = handlers["Work.Decline"]

        async def decline(context, text):
            try:
                return await good.function(context, text)
            except Conflict as error:
                error.details = None
                raise

        handlers[good.name] = replace(good, function=decline)


class NamesInnerNodes(Faulty):
    def change(self, handlers):
        good = handlers["Work.LetThrough"]

        async def let_through(context, text):
            try:
                return await good.function(context, text)
            except Unavailable as error:
                raise Unavailable(error.detail) from error

        handlers[good.name] = replace(good, function=let_through)


class TellsEverything(Faulty):
    def change(self, handlers):
        good = handlers["Work.Fail"]

        async def fail(context, text):
            try:
                return await good.function(context, text)
            except RuntimeError as error:
                raise InternalError(str(error)) from error

        handlers[good.name] = replace(good, function=fail)


class LosesTheFirstOfAStream(Faulty):
    def change(self, handlers):
        good = next(handler for handler in handlers.values() if handler.kind is HandlerKind.CLIENT_STREAM)

        async def join(context, texts):
            await anext(texts)
            return await good.function(context, texts)

        handlers[good.name] = replace(good, function=join)


class EventsAreEmpty(Faulty):
    def on_message(self, message):
        return Message(message.headers, message.body.replace(b'"body"', b""))


class LatestMetadata(Faulty):
    """Has all calls that wait see the headers of the latest."""

    def change(self, handlers):
        good = handlers["Work.Late"]

        async def late(context, text):
            self.latest = context
            await anyio.sleep(0.01)
            return await good.function(self.latest, text)

        handlers[good.name] = replace(good, function=late)


class DeadlinesAreHidden(Faulty):
    def change(self, handlers):
        good = handlers["Work.Remaining"]

        async def remaining(context, text):
            context.deadline = math.inf
            return await good.function(context, text)

        handlers[good.name] = replace(good, function=remaining)


class Replying(Tapped):
    """Changes how requests are answered."""

    def on_request(self, request):
        if request.stream is None:
            sound = type(request).respond
            change = self.change_reply

            def respond(self, head, headers, body):
                sound(self, head, change(self, headers), body)

            request.__class__ = type("Replying", (type(request),), {"__slots__": (), "respond": respond})
        return request

    def change_reply(self, request, headers):
        return headers


class RubbishIsInternal(Replying):
    def change_reply(self, request, headers):
        if request.body == b"\xff" and b"Micro-Error" in headers:
            return {**headers, b"Micro-Error": headers[b"Micro-Error"].replace(b"400", b"500")}
        return headers


class UnknownIsJson(Tapped):
    def on_request(self, request):
        if request.headers.get(b"Content-Type") == b"application/x-unknown":
            request.headers[b"Content-Type"] = b"application/json"
        return request


class AnswersForAll(Tapped):
    def on_request(self, request):
        if request.headers.get(b"Micro-Service") == b"somebody-else":
            del request.headers[b"Micro-Service"]
        return request


class AnswersInTheEnd(Faulty):
    """Has a handler begin when all of its requests are there."""

    def change(self, handlers):
        good = handlers["Work.Chat"]

        async def chat(context, texts):
            kept = [text async for text in texts]

            async def again():
                for text in kept:
                    yield text

            async for answer in good.function(context, again()):
                yield answer

        handlers[good.name] = replace(good, function=chat)


class BreakingOffIsTheEnd(Faulty):
    def change(self, handlers):
        good = handlers["Work.Break"]

        async def broken(context, texts):
            try:
                async for text in good.function(context, texts):
                    yield text
            except Conflict:
                return

        handlers[good.name] = replace(good, function=broken)


class BadNewsIsGood(Replying):
    def change_reply(self, request, headers):
        return {} if request.body == b'"bad"' else headers


class GuardedBut(RpcServer):
    """Does not ask guards about the endpoint or topic ``but``."""

    def __init__(self, *, transport, codecs, middleware=(), guards=()):
        def guarded(guard):
            return lambda context: None if context.endpoint == self.but else guard(context)

        guards = [guarded(guard) for guard in guards]
        super().__init__(transport=transport, codecs=codecs, middleware=middleware, guards=guards)


class StreamsAreNotGuarded(GuardedBut):
    but = "Work.Tail"


class EventsAreNotGuarded(GuardedBut):
    but = "news"


class EventsAreAnsweredAtOnce(Tapped):
    def on_request(self, request):
        if b"slow" in request.body:
            request.respond(Head({}), {}, b"")
        return request


class BrokenGuardsSleep(RpcServer):
    def __init__(self, *, transport, codecs, middleware=(), guards=()):
        def guarded(guard):
            def lenient(context):
                try:
                    guard(context)
                except RuntimeError:
                    return

            return lenient

        guards = [guarded(guard) for guard in guards]
        super().__init__(transport=transport, codecs=codecs, middleware=middleware, guards=guards)


class StaysBound(RpcServer):
    """Goes on listening for those that were connected when nothing was in hand."""

    def __init__(self, *, transport, codecs, middleware=(), guards=()):
        super().__init__(transport=transport, codecs=codecs, middleware=middleware, guards=guards)
        self._transport = Lasting(transport)


class Lasting:
    def __init__(self, transport):
        self.transport, self.name, self.metadata = transport, transport.name, transport.metadata

    @asynccontextmanager
    async def listen(self, address, receive, limits):
        requests = []

        def counted(request):
            requests.append(request)
            receive(request)

        self.listening = self.transport.listen(address, counted, limits)
        yield await self.listening.__aenter__()
        if requests:
            await self.listening.__aexit__(None, None, None)


class MiddlewareInsideOut(RpcServer):
    def __init__(self, *, transport, codecs, middleware=(), guards=()):
        super().__init__(transport=transport, codecs=codecs, middleware=middleware[::-1], guards=guards)


class LeftStreamsGoOn(Tapped):
    def on_request(self, request):
        if request.stream is None or request.headers.get(b"Micro-Endpoint") != b"Work.Tail":
            return request
        deaf = Deaf(request.headers, request.body, local="", remote="", stream=StreamThatStays(request.stream))
        deaf.inner = request
        return deaf


class StreamThatStays(Stream):
    def __init__(self, sound):
        self.sound = sound

    async def send(self, *message):
        await self.sound.send(*message)

    async def receive(self):
        try:
            return await self.sound.receive()
        except ConnectionLost:
            await anyio.sleep_forever()

    async def aclose(self):
        await self.sound.aclose()


class NoDeadlines(Tapped):
    def on_request(self, request):
        if request.headers.get(b"Micro-Endpoint") == b"Work.Hold":
            request.headers.pop(b"Timeout", None)
        return request


class Deaf(Request):
    """A request that nobody learns the end of."""

    def respond(self, head, headers, body):
        self.inner.respond(head, headers, body)


class CallersNeverGoAway(Tapped):
    def on_request(self, request):
        if request.stream is not None:
            return request
        deaf = Deaf(request.headers, request.body, local="", remote="")
        deaf.inner = request
        return deaf


class Leaving(RpcServer):
    """A server whose end and whose drain can be other than they should be."""

    @asynccontextmanager
    async def _serve(self, *arguments):
        async with super()._serve(*arguments) as running:
            self.change(running)
            yield running
            await self.leave(running)

    def change(self, running):
        pass

    async def leave(self, running):
        pass


class LeavingWaits(Leaving):
    async def leave(self, running):
        await running.drain()


class DrainForgets(Leaving):
    """Has `drain` return at once while what `change_handlers` counts is under way."""

    def serve(self, service, address, handlers, on_event, limits):
        self.forgotten = 0
        return super().serve(service, address, {**handlers, **self.changed(handlers)}, on_event, limits)

    def change(self, running):
        sound = running.drain

        async def drain():
            if not self.forgotten:
                await sound()

        running.drain = drain


class DrainForgetsCalls(DrainForgets):
    def changed(self, handlers):
        good = handlers["Work.Hold"]

        async def hold(context, text):
            self.forgotten += 1
            try:
                return await good.function(context, text)
            finally:
                self.forgotten -= 1

        return {good.name: replace(good, function=hold)}


class DrainForgetsStreams(DrainForgets):
    def changed(self, handlers):
        good = handlers["Work.Tail"]

        async def tail(context, text):
            self.forgotten += 1
            try:
                async for answer in good.function(context, text):
                    yield answer
            finally:
                self.forgotten -= 1

        return {good.name: replace(good, function=tail)}


class FailuresStayInFlight(Leaving):
    def serve(self, service, address, handlers, on_event, limits):
        self.failed = 0
        handlers = dict(handlers)
        good = handlers["Work.Fail"]

        async def fail(context, text):
            self.failed += 1
            return await good.function(context, text)

        handlers[good.name] = replace(good, function=fail)
        return super().serve(service, address, handlers, on_event, limits)

    def change(self, running):
        server = self

        class Counting(type(running)):
            @property
            def in_flight(self):
                return super().in_flight + server.failed

        running.__class__ = Counting


class DrainRefusesNothing(Leaving):
    def change(self, running):
        good = running.drain

        async def drain():
            try:
                await good()
            finally:
                running._dispatcher.draining = False

        running.drain = drain


class Suite(ServerConformance):
    plugin = RpcServer


FAULTS = {
    "test_nodes_say_which_protocol_it_speaks": SaysNoProtocol,
    "test_a_call_is_answered_by_its_handler": OtherReply,
    "test_an_unknown_endpoint_is_not_found_and_not_executed": NotFoundCountsAsExecuted,
    "test_an_error_that_a_handler_means_arrives_as_it_is": ErrorsLoseTheirClass,
    "test_an_error_of_the_applications_own_arrives_with_its_details": DetailsStay,
    "test_an_error_that_a_handler_lets_through_from_a_call_of_its_own_names_no_node": NamesInnerNodes,
    "test_any_other_exception_is_masked_and_its_neighbours_go_on": TellsEverything,
    "test_streams_of_every_kind": LosesTheFirstOfAStream,
    "test_calls_under_way_have_their_own_metadata": LatestMetadata,
    "test_a_handler_is_told_the_deadline_of_its_call": DeadlinesAreHidden,
    "test_a_body_that_does_not_fit_is_a_bad_request": RubbishIsInternal,
    "test_a_content_type_that_nobody_codes_is_a_bad_request": UnknownIsJson,
    "test_a_call_for_another_service_is_not_found": AnswersForAll,
    "test_a_stream_is_answered_before_its_last_request": AnswersInTheEnd,
    "test_a_stream_that_breaks_off_tells_so_behind_what_it_sent": BreakingOffIsTheEnd,
    "test_an_event_that_fails_is_told_and_the_next_one_comes": BadNewsIsGood,
    "test_an_event_is_answered_when_it_was_handled": EventsAreAnsweredAtOnce,
    "test_a_guard_looks_at_events_too": EventsAreNotGuarded,
    "test_a_guard_that_fails_lets_nobody_in": BrokenGuardsSleep,
    "test_nobody_listens_when_a_server_was_left": StaysBound,
    "test_a_guard_refuses_before_anything_runs": StreamsAreNotGuarded,
    "test_middleware_goes_round_every_handler_the_first_outermost": MiddlewareInsideOut,
    "test_a_caller_that_leaves_a_stream_cancels_its_handler": LeftStreamsGoOn,
    "test_drain_waits_for_streams": DrainForgetsStreams,
    "test_what_failed_is_not_in_flight": FailuresStayInFlight,
    "test_an_event_comes_to_on_event": EventsAreEmpty,
    "test_the_deadline_of_a_call_cancels_its_handler": NoDeadlines,
    "test_a_caller_that_goes_away_cancels_its_handler": CallersNeverGoAway,
    "test_leaving_cancels_what_is_left": LeavingWaits,
    "test_drain_waits_for_what_is_in_flight": DrainForgetsCalls,
    "test_a_server_that_drains_refuses_new_calls_as_not_executed": DrainRefusesNothing,
}
