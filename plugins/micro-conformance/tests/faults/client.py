"""One broken client for each promise; the table's key is the promise that alone catches it."""

import math

import anyio
from msgspec.structs import replace

from micro_conformance import ClientConformance
from micro_core import (
    Call,
    Closed,
    Conflict,
    ConnectFailed,
    ConnectionLost,
    DecodeError,
    Executed,
    Head,
    NoNode,
    RemoteError,
    Timeout,
    Unavailable,
)
from micro_core.builtin.rpc.client import RpcClient
from micro_core.builtin.rpc.client_stream import RpcStream


class RepliesAreMappings(RpcClient):
    async def call(self, call):
        reply = await super().call(call)
        return reply if isinstance(reply, str) else vars(reply)


class OneReplyForAll(RpcClient):
    """Gives those calls that find others under way the reply of one of them."""

    under_way = 0

    async def call(self, call):
        first = self.under_way == 0
        self.under_way += 1
        try:
            reply = await super().call(call)
        finally:
            self.under_way -= 1
        self.reply = reply if first else getattr(self, "reply", "0")
        return self.reply


class MetadataStays(RpcClient):
    async def call(self, call):
        options = replace(call.options, metadata=None)
        return await super().call(Call(call.service, call.endpoint, call.request, call.response_type, options))


class ErrorsHaveNoClass(RpcClient):
    async def call(self, call):
        try:
            return await super().call(call)
        except Conflict as error:
            if error.details is not None:
                raise
            raise RemoteError(error.detail, code=error.code, id=error.id) from error


class AsksForNoErrors(RpcClient):
    async def call(self, call):
        call.options = replace(call.options, errors=())
        return await super().call(call)


class NoNodeIsUnavailable(RpcClient):
    async def call(self, call):
        try:
            return await super().call(call)
        except NoNode as error:
            raise Unavailable(error.detail, executed=Executed.NO) from error


class TimeoutIsUnavailable(RpcClient):
    async def call(self, call):
        try:
            return await super().call(call)
        except Timeout as error:
            raise Unavailable(error.detail, executed=error.executed) from error


class AnyReplyFits(RpcClient):
    async def call(self, call):
        try:
            return await super().call(call)
        except DecodeError:
            return None


class Wired(RpcClient):
    """A client whose calls go through `on_call` before they reach the transport's channels."""

    def __init__(self, *, registry, selector, transport, codecs, middleware=(), defaults=None):
        parts = {"registry": registry, "selector": selector, "transport": Tap(transport, self.on_call)}
        super().__init__(codecs=codecs, middleware=middleware, defaults=defaults, **parts)


class Tap:
    def __init__(self, sound, on_call):
        self.sound, self.on_call, self.name, self.metadata = sound, on_call, sound.name, sound.metadata

    def connect(self, node):
        channel = self.sound.connect(node)
        sound = channel.call

        async def call(*arguments):
            return await self.on_call(sound, *arguments)

        channel.call = call
        return channel


class DeadlinesStayHere(Wired):
    async def on_call(self, sound, head, id, headers, body, deadline):
        if b"Remaining" in head.headers.get(b"Micro-Endpoint", b""):
            head = Head({name: value for name, value in head.headers.items() if name != b"Timeout"})
            headers = {name: value for name, value in headers.items() if name != b"Timeout"}
        return await sound(head, id, headers, body, deadline)


class NothingIsUsual(RpcClient):
    async def call(self, call):
        if call.options.timeout is None:
            call.options = replace(call.options, timeout=5.0)
        return await super().call(call)


class CancellingIsNotTold(RpcClient):
    async def call(self, call):
        if call.options.timeout != math.inf:
            return await super().call(call)
        call.options = replace(call.options, timeout=60.0)
        with anyio.CancelScope(shield=True):
            return await super().call(call)


class OneAfterTheOther(RpcClient):
    """Has calls wait for one that has no deadline."""

    under_way = None

    async def call(self, call):
        if self.under_way is not None:
            await self.under_way.wait()
        if call.options.timeout != math.inf or call.endpoint != "Work.Hold":
            return await super().call(call)
        self.under_way = anyio.Event()
        return await super().call(call)


class WritesIntoWhatItWasGiven(RpcClient):
    async def call(self, call):
        reply = await super().call(call)
        if call.options.metadata and reply == "b":
            call.options.metadata["tenant"] = reply
        return reply


class TimeoutsOfAttempts(RpcClient):
    async def call(self, call):
        if call.options.retries != 50:
            return await super().call(call)
        for _ in range(50):
            try:
                reply = await super().call(call)
            except Timeout as error:
                failed = error
            else:
                return reply
        raise failed


class MiddlewareOnceForAll(RpcClient):
    """Puts middleware round the first attempt alone."""

    def __init__(self, *, registry, selector, transport, codecs, middleware=(), defaults=None):
        async def first_alone(attempt, attempt_next):
            return await (attempt_next(attempt) if attempt.number else middleware[0](attempt, attempt_next))

        parts = {"registry": registry, "selector": selector, "transport": transport, "codecs": codecs}
        super().__init__(middleware=(first_alone,) if middleware else (), defaults=defaults, **parts)


class AddressesAreAdvice(RpcClient):
    async def call(self, call):
        call.options = replace(call.options, address=None)
        return await super().call(call)


class FiltersAreAdvice(RpcClient):
    """Takes filters for met where they leave something."""

    async def call(self, call):
        reply = await super().call(call)
        if call.options.filters:
            call.options = replace(call.options, filters=())
            reply = await super().call(call)
        return reply


class TellsNothing(RpcClient):
    async def call(self, call):
        if self._selector.name == "choosy":
            self._selector.finished = lambda *arguments: None
        return await super().call(call)


class StaysWithWhatItKnew(RpcClient):
    """Keeps to the node that it called first, where a call says nothing else."""

    async def call(self, call):
        if call.endpoint == "Work.Where" and not call.options.filters and not call.options.address:
            self.first = getattr(self, "first", None) or await super().call(call)
            call.options = replace(call.options, address=self.first)
        return await super().call(call)


class AnswersAreTriedAgain(RpcClient):
    async def call(self, call):
        try:
            return await super().call(call)
        except Conflict:
            if call.options.retries == 3:
                return await super().call(call)
            raise


class AlwaysOneMore(RpcClient):
    async def call(self, call):
        if call.options.retries == 0:
            call.options = replace(call.options, retries=1, timeout=1.0, attempt_timeout=0.2)
        return await super().call(call)


class OneNodeIsEnough(Wired):
    """Takes what certainly was not executed for what may have been."""

    async def on_call(self, sound, head, *arguments):
        try:
            return await sound(head, *arguments)
        except ConnectFailed as error:
            if b"Echo" in head.headers.get(b"Micro-Endpoint", b""):
                raise ConnectionLost(error.detail) from error
            raise


class IdempotentOnceOnly(Wired):
    """Takes what may have been executed for what has been."""

    async def on_call(self, sound, *arguments):
        try:
            return await sound(*arguments)
        except Timeout as error:
            raise Timeout(error.detail, executed=Executed.YES) from error


class AllIsIdempotent(RpcClient):
    async def call(self, call):
        call.options = replace(call.options, idempotent=True)
        return await super().call(call)


class Streams(RpcClient):
    async def open(self, call):
        stream = await super().open(call)
        stream.__class__ = self.stream
        return stream


class EndsInAnError(RpcStream):
    async def receive(self):
        try:
            return await super().receive()
        except StopAsyncIteration:
            raise Closed("the stream has ended") from None


class SendsIntoNothing(RpcStream):
    async def send(self, request):
        if self._sending:
            await super().send(request)


class BreaksOffInSilence(RpcStream):
    async def receive(self):
        try:
            return await super().receive()
        except Conflict:
            raise StopAsyncIteration from None


class LeavesSilently(RpcStream):
    async def aclose(self):
        if self._endpoint != "Work.Tail":
            await super().aclose()


class BreakingOffIsTheEnd(Streams):
    stream = BreaksOffInSilence


class LeavingIsNotTold(Streams):
    stream = LeavesSilently


class EndOfStreamIsAnError(Streams):
    stream = EndsInAnError


class SendsAfterTheEnd(Streams):
    stream = SendsIntoNothing


class ClosedIsUnavailable(RpcClient):
    async def call(self, call):
        try:
            return await super().call(call)
        except Closed as error:
            raise Unavailable(error.detail) from error


class Suite(ClientConformance):
    plugin = RpcClient


FAULTS = {
    "test_a_reply_is_of_the_response_type": RepliesAreMappings,
    "test_calls_at_once_get_their_own_replies": OneReplyForAll,
    "test_metadata_of_a_call_is_sent": MetadataStays,
    "test_a_handlers_error_arrives_as_its_class_with_code_id_and_detail": ErrorsHaveNoClass,
    "test_an_error_of_the_applications_own_that_a_call_names_is_raised_with_its_details": AsksForNoErrors,
    "test_a_service_that_nobody_offers_has_no_node": NoNodeIsUnavailable,
    "test_a_deadline_that_passes_is_a_timeout": TimeoutIsUnavailable,
    "test_a_reply_that_does_not_fit_is_a_decode_error": AnyReplyFits,
    "test_the_deadline_goes_with_the_call": DeadlinesStayHere,
    "test_the_usual_timeout_holds_where_a_call_names_none": NothingIsUsual,
    "test_a_cancelled_call_cancels_its_handler": CancellingIsNotTold,
    "test_a_held_call_holds_up_no_other": OneAfterTheOther,
    "test_what_a_caller_gave_stays_as_it_is": WritesIntoWhatItWasGiven,
    "test_a_timeout_is_for_all_attempts_together": TimeoutsOfAttempts,
    "test_middleware_goes_round_every_attempt_and_sees_its_node": MiddlewareOnceForAll,
    "test_a_call_to_an_address_goes_there_and_asks_no_registry": AddressesAreAdvice,
    "test_filters_say_which_nodes_may_be_called": FiltersAreAdvice,
    "test_the_selector_chooses_and_hears_how_each_attempt_ended": TellsNothing,
    "test_a_node_that_comes_is_called_and_one_that_goes_is_not": StaysWithWhatItKnew,
    "test_what_a_handler_answered_is_never_tried_again": AnswersAreTriedAgain,
    "test_no_retries_are_one_attempt": AlwaysOneMore,
    "test_a_stream_that_breaks_off_is_an_error_behind_what_was_sent": BreakingOffIsTheEnd,
    "test_leaving_a_stream_cancels_its_handler": LeavingIsNotTold,
    "test_what_was_not_executed_is_tried_at_another_node": OneNodeIsEnough,
    "test_an_idempotent_call_is_tried_again_where_it_may_have_been_executed": IdempotentOnceOnly,
    "test_another_call_is_not_tried_again_where_it_may_have_been_executed": AllIsIdempotent,
    "test_a_stream_goes_both_ways_until_its_end": EndOfStreamIsAnError,
    "test_a_stream_takes_nothing_after_close_send": SendsAfterTheEnd,
    "test_use_after_close_raises_closed": ClosedIsUnavailable,
}
