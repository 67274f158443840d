"""One broken server for each promise; the table's key is the promise that alone catches it."""

from contextlib import asynccontextmanager

from msgspec.structs import replace

from micro_conformance import ServerConformance
from micro_core import BadRequest, Conflict, HandlerKind, InternalError, Message, NotFound, Request
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

    def __init__(self, *, transport, codecs):
        super().__init__(transport=transport, codecs=codecs)
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
        return Message(message.headers, b"")


class NoDeadlines(Tapped):
    def on_request(self, request):
        request.headers.pop(b"Timeout", None)
        return request


class Deaf(Request):
    """A request that nobody learns the end of."""

    def respond(self, head, headers, body):
        self.inner.respond(head, headers, body)


class CallersNeverGoAway(Tapped):
    def on_request(self, request):
        deaf = Deaf(request.headers, request.body, local="", remote="", stream=request.stream)
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


class DrainReturnsAtOnce(Leaving):
    def change(self, running):
        async def drain():
            running._dispatcher.draining = True
            await running._listener.stop_accepting()

        running.drain = drain


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
    "test_any_other_exception_is_masked_and_its_neighbours_go_on": TellsEverything,
    "test_streams_of_every_kind": LosesTheFirstOfAStream,
    "test_an_event_comes_to_on_event": EventsAreEmpty,
    "test_the_deadline_of_a_call_cancels_its_handler": NoDeadlines,
    "test_a_caller_that_goes_away_cancels_its_handler": CallersNeverGoAway,
    "test_leaving_cancels_what_is_left": LeavingWaits,
    "test_drain_waits_for_what_is_in_flight": DrainReturnsAtOnce,
    "test_a_server_that_drains_refuses_new_calls_as_not_executed": DrainRefusesNothing,
}
