"""One broken client for each promise; the table's key is the promise that alone catches it."""

from msgspec.structs import replace

from micro_conformance import ClientConformance
from micro_core import Closed, Conflict, Executed, NoNode, RemoteError, Timeout, Unavailable
from micro_core._calling.attempts import Attempts
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
        call.metadata.clear()
        return await super().call(call)


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


class Tries(RpcClient):
    """A client that goes on with other attempts than it should."""

    async def _make(self, attempts):
        attempts.__class__ = self.attempts
        return await super()._make(attempts)


class OnlyUnsent(Attempts):
    __slots__ = ()

    def _goes_on(self, verdict, error, now):
        return error.executed is Executed.NO and super()._goes_on(verdict, error, now)


class OnlySent(Attempts):
    __slots__ = ()

    def _goes_on(self, verdict, error, now):
        return error.executed is not Executed.NO and super()._goes_on(verdict, error, now)


class OneNodeIsEnough(Tries):
    attempts = OnlySent


class IdempotentOnceOnly(Tries):
    attempts = OnlyUnsent


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
    "test_what_was_not_executed_is_tried_at_another_node": OneNodeIsEnough,
    "test_an_idempotent_call_is_tried_again_where_it_may_have_been_executed": IdempotentOnceOnly,
    "test_another_call_is_not_tried_again_where_it_may_have_been_executed": AllIsIdempotent,
    "test_a_stream_goes_both_ways_until_its_end": EndOfStreamIsAnError,
    "test_a_stream_takes_nothing_after_close_send": SendsAfterTheEnd,
    "test_use_after_close_raises_closed": ClosedIsUnavailable,
}
