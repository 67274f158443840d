"""The synchronous client, for notebooks, Django and scripts: the same calls, waited for in the caller's thread."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from contextlib import ExitStack, contextmanager
from functools import partial
from types import TracebackType
from typing import TYPE_CHECKING, Any, Generic, Self, TypeVar, overload

from micro_core._client import Client
from micro_core.client import ClientStream
from micro_core.errors import Closed, MicroError

if TYPE_CHECKING:
    from concurrent.futures import Future

    from anyio.from_thread import BlockingPortal

__all__ = ["SyncClient", "SyncStream"]

Response = TypeVar("Response")


class SyncStream(Generic[Response]):
    """An open stream; iterate over it for the answers."""

    def __init__(
        self, portal: BlockingPortal, stream: ClientStream[Response], sending: Future[None] | None = None
    ) -> None:
        self._portal = portal
        self._stream = stream
        self._sending = sending

    def send(self, request: Any) -> None:
        """Send one message. Raises as `ClientStream.send`."""
        self._portal.call(self._stream.send, request)

    def close_send(self) -> None:
        """Say that no more messages follow."""
        self._portal.call(self._stream.close_send)

    def __iter__(self) -> Iterator[Response]:
        while True:
            try:
                ended, reply = self._portal.call(_next, self._stream)
            except MicroError:
                self.check_requests()
                raise
            if ended:
                self.check_requests()
                return
            yield reply

    def check_requests(self) -> None:
        """Raise what taking the stream's ``requests`` has raised, if anything."""
        sending = self._sending
        if sending is not None and sending.done() and not sending.cancelled():
            sending.result()


async def _next(stream: ClientStream[Any]) -> tuple[bool, Any]:
    try:
        return False, await stream.receive()
    except StopAsyncIteration:
        return True, None


async def _send_all(stream: ClientStream[Any], requests: Iterator[Any]) -> None:
    """Send ``requests`` and close that direction. Raises what they raise; whoever reads learns how the stream fared."""
    from anyio.to_thread import run_sync

    end = object()
    while True:
        try:
            request = await run_sync(next, requests, end, abandon_on_cancel=True)
        except Exception:
            await stream.aclose()
            raise
        try:
            if request is end:
                await stream.close_send()
                return
            await stream.send(request)
        except MicroError:
            return


class SyncClient:
    """A `Client` for code that is not async. A context manager; it owns one thread with an event loop.

    Takes what `Client` takes. Safe to use from several threads.
    """

    def __init__(self, *arguments: Any, **options: Any) -> None:
        self._arguments = (arguments, options)
        self._opened = ExitStack()
        self._portal: BlockingPortal | None = None
        self._client: Client | None = None

    def __repr__(self) -> str:
        return f"<SyncClient of {self._client!r}>" if self._client is not None else "<SyncClient closed>"

    def __enter__(self) -> Self:
        from anyio.from_thread import start_blocking_portal

        arguments, options = self._arguments
        with ExitStack() as opening:
            self._portal = opening.enter_context(start_blocking_portal())
            client = Client(*arguments, **options)
            self._client = opening.enter_context(self._portal.wrap_async_context_manager(client))
            self._opened = opening.pop_all()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self._opened.close()
        self._portal = self._client = None

    def _opened_client(self) -> tuple[BlockingPortal, Client]:
        if self._portal is None or self._client is None:
            raise Closed("the client is not open: use it in `with`")
        return self._portal, self._client

    @overload
    def call(
        self, service: str, endpoint: str, request: Any, response_type: type[Response], **options: Any
    ) -> Response: ...
    @overload
    def call(self, service: str, endpoint: str, request: Any, response_type: Any = Any, **options: Any) -> Any: ...
    def call(self, service: str, endpoint: str, request: Any, response_type: Any = Any, **options: Any) -> Any:
        """Return the reply of an endpoint; arguments and errors as `Client.call`."""
        portal, client = self._opened_client()
        return portal.call(partial(client.call, service, endpoint, request, response_type, **options))

    def publish(self, topic: str, message: Any, **options: Any) -> None:
        """Publish a message; arguments and errors as `Client.publish`."""
        portal, client = self._opened_client()
        portal.call(partial(client.publish, topic, message, **options))

    def flush(self, timeout: float = 25.0) -> int:
        """Wait until every published message was taken; return how many are left."""
        portal, client = self._opened_client()
        return portal.call(client.flush, timeout)

    @contextmanager
    def stream(
        self,
        service: str,
        endpoint: str,
        response_type: Any = Any,
        requests: Iterable[Any] | None = None,
        **options: Any,
    ) -> Iterator[SyncStream[Any]]:
        """Open a stream; leaving the context leaves it. Options as `Client.call`.

        ``requests``, if given, are all that is sent: taken in a thread of their own as fast as the server takes them,
        while answers are read. An exception of theirs ends the stream, and is raised in place of further answers.
        """
        portal, client = self._opened_client()
        opening = client.stream(service, endpoint, response_type, **options)
        with portal.wrap_async_context_manager(opening) as stream:
            if requests is None:
                yield SyncStream(portal, stream)
                return
            sending = portal.start_task_soon(_send_all, stream, iter(requests))
            held: SyncStream[Any] = SyncStream(portal, stream, sending)
            try:
                yield held
            finally:
                sending.cancel()
            held.check_requests()
