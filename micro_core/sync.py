"""The synchronous client, for notebooks, Django and scripts: the same calls, waited for in the caller's thread."""

from __future__ import annotations

import atexit
import os
import threading
from collections.abc import Callable, Iterable, Iterator, MutableMapping, Sequence
from contextlib import AbstractContextManager, contextmanager
from functools import partial
from types import TracebackType
from typing import TYPE_CHECKING, Any, Generic, Self, TypeVar, Unpack, overload
from weakref import WeakKeyDictionary

from micro_core._app.client import Client
from micro_core._app.proxy import Proxy
from micro_core._app.sync_proxy import sync_proxy_class
from micro_core.client import DEFAULT_OPTIONS, Call, CallOptionsDict, ClientStream, call_options
from micro_core.errors import Closed, MicroError
from micro_core.message import Topic

if TYPE_CHECKING:
    from anyio.from_thread import BlockingPortal

    from micro_core._plugins.host import PluginHost
    from micro_core._runtime.loop_thread import LoopThread
    from micro_core.broker import Broker, PublishOptions
    from micro_core.client import Caller
    from micro_core.codec import Codec
    from micro_core.registry import Registry
    from micro_core.selector import Selector
    from micro_core.tls import Tls
    from micro_core.transport import Transport

__all__ = ["SyncClient", "SyncStream"]

Response = TypeVar("Response")
Payload = TypeVar("Payload")


class SyncStream(Generic[Response]):
    """An open stream; iterate over it for the answers."""

    def __init__(
        self, wait: Callable[..., Any], stream: ClientStream[Response], requests: Iterable[object] | None = None
    ) -> None:
        self._wait = wait
        self._stream = stream
        self._error: BaseException | None = None
        if requests is not None:
            # Nobody waits for this thread: it may be held up in an iterator of the caller's.
            threading.Thread(target=self._send_all, args=(requests,), name="micro requests", daemon=True).start()

    def send(self, request: object) -> None:
        """Send one message. Raises as `ClientStream.send`."""
        self._wait(self._stream.send, request)

    def close_send(self) -> None:
        """Say that no more messages follow."""
        self._wait(self._stream.close_send)

    def __iter__(self) -> Iterator[Response]:
        while True:
            try:
                reply: tuple[Response] | None = self._wait(_next, self._stream)
            except MicroError:
                self.check_requests()
                raise
            if reply is None:
                self.check_requests()
                return
            yield reply[0]

    def check_requests(self) -> None:
        """Raise what taking the stream's ``requests`` has raised, if anything."""
        if self._error is not None:
            raise self._error

    def _send_all(self, requests: Iterable[object]) -> None:
        """Send ``requests`` and close that direction; whoever reads learns how the stream fared."""
        from concurrent.futures import CancelledError

        try:
            for request in self._taken(requests):
                self.send(request)
            self._wait(self._stream.close_send if self._error is None else self._stream.aclose)
        except (MicroError, RuntimeError, CancelledError):
            return  # the stream or its client has ended

    def _taken(self, requests: Iterable[object]) -> Iterator[object]:
        try:
            yield from requests
        except BaseException as error:  # of the caller's iterator, raised where its stream is read
            self._error = error


async def _next(stream: ClientStream[Response]) -> tuple[Response] | None:
    try:
        return (await stream.receive(),)
    except StopAsyncIteration:
        return None


class SyncClient:
    """A `Client` for code that is not async; it owns one thread with an event loop.

    Takes what `Client` takes. It opens with the first use, or in ``with``, and lasts until `close`, the end of the
    ``with`` or the end of the program. Safe to use from several threads. The thread does not come along when the
    process forks: a client that is open raises `Closed` in the child, one that was not used yet opens there.
    """

    def __init__(
        self,
        name: str = "",
        *,
        registry: str | Registry | None = None,
        selector: str | Selector | None = None,
        transport: str | Transport | None = None,
        codec: str | Codec | Sequence[str | Codec] | None = None,
        broker: str | Broker | None = None,
        client: str | Caller | None = None,
        tls: Tls | None = None,
        extensions: str | Sequence[str] | None = None,
        plugins: PluginHost | None = None,
        argv: tuple[str, ...] = (),
    ) -> None:
        self._client = Client(
            name,
            registry=registry,
            selector=selector,
            transport=transport,
            codec=codec,
            broker=broker,
            client=client,
            tls=tls,
            extensions=extensions,
            plugins=plugins,
            argv=argv,
        )
        self._opening = threading.Lock()
        self._loop: LoopThread | None = None
        self._process = 0
        self._closed = False
        self._proxies: MutableMapping[object, type[Proxy]] = WeakKeyDictionary()

    def __repr__(self) -> str:
        return f"<SyncClient of {self._client!r}>"

    def __enter__(self) -> Self:
        self._portal()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """Close connections and end the thread. Closing twice is fine; use after that raises `Closed`.

        Done at the end of the program for whoever did not. In a forked process, which has no such thread, it only
        forgets.
        """
        with self._opening:
            loop, self._loop, self._closed = self._loop, None, True
        atexit.unregister(self.close)
        if loop is not None and self._process == os.getpid():
            loop.stop()

    def _portal(self) -> BlockingPortal:
        """Return the way into the event loop, which starts here. Raises `Closed`, and what opening a client raises."""
        loop = self._loop
        if loop is None:
            with self._opening:
                loop = self._loop or self._open()
        if self._process != os.getpid():
            raise Closed(
                f"this SyncClient was opened in process {self._process}, and its event loop stayed there when that "
                f"forked process {os.getpid()}: make a SyncClient after the fork"
            )
        return loop.portal

    def _open(self) -> LoopThread:
        from micro_core._runtime.loop_thread import LoopThread  # which most programs do not need

        if self._closed:
            raise Closed("the client is closed: make a new one")
        loop = LoopThread(self._client)
        self._process, self._loop = os.getpid(), loop
        atexit.register(self.close)
        return loop

    def _wait(self, function: Callable[..., Any], *arguments: object) -> Any:
        """Return what an async function returns in the client's event loop."""
        return self._portal().call(function, *arguments)

    @overload
    def call(
        self,
        service: str,
        endpoint: str,
        request: object,
        response_type: type[Response],
        **options: Unpack[CallOptionsDict],
    ) -> Response: ...
    @overload
    def call(
        self, service: str, endpoint: str, request: object, response_type: Any = Any, **options: Unpack[CallOptionsDict]
    ) -> Any: ...
    def call(
        self, service: str, endpoint: str, request: object, response_type: Any = Any, **options: Unpack[CallOptionsDict]
    ) -> Any:
        """Return the reply of an endpoint; arguments and errors as `Client.call`."""
        chosen = call_options(options) if options else DEFAULT_OPTIONS
        return self.make_call(Call(service, endpoint, request, response_type, chosen))

    def make_call(self, call: Call) -> Any:
        """Return the reply to ``call``, through the middleware."""
        return self._wait(self._client.make_call, call)

    @overload
    def publish(
        self,
        topic: Topic[Payload],
        message: Payload,
        **options: Unpack[PublishOptions],
    ) -> None: ...
    @overload
    def publish(
        self,
        topic: str,
        message: object,
        **options: Unpack[PublishOptions],
    ) -> None: ...
    def publish(
        self,
        topic: str | Topic[Any],
        message: object,
        **options: Unpack[PublishOptions],
    ) -> None:
        """Publish a message; arguments and errors as `Client.publish`."""
        self._wait(partial(self._client.publish, topic, message, **options))

    def flush(self, timeout: float = 25.0) -> int:
        """Wait until every published message was taken; return how many are left."""
        left: int = self._wait(self._client.flush, timeout)
        return left

    @overload
    def stream(
        self,
        service: str,
        endpoint: str,
        response_type: type[Response],
        requests: Iterable[object] | None = None,
        *,
        request_type: object = None,
        **options: Unpack[CallOptionsDict],
    ) -> AbstractContextManager[SyncStream[Response]]: ...
    @overload
    def stream(
        self,
        service: str,
        endpoint: str,
        response_type: Any = Any,
        requests: Iterable[object] | None = None,
        *,
        request_type: object = None,
        **options: Unpack[CallOptionsDict],
    ) -> AbstractContextManager[SyncStream[Any]]: ...
    def stream(
        self,
        service: str,
        endpoint: str,
        response_type: Any = Any,
        requests: Iterable[object] | None = None,
        *,
        request_type: object = None,
        **options: Unpack[CallOptionsDict],
    ) -> AbstractContextManager[SyncStream[Any]]:
        """Open a stream; leaving the context leaves it. Other arguments and options as `Client.stream`.

        ``requests``, if given, are all that is sent: taken in a thread of their own as fast as the server takes them,
        while answers are read. An exception of theirs ends the stream, and is raised in place of further answers.
        """
        chosen = call_options(options) if options else DEFAULT_OPTIONS
        call = Call(service, endpoint, None, response_type, chosen, streaming=True)
        if request_type is not None:
            call.request_type = request_type
        return self.open_stream(call, requests)

    @contextmanager
    def open_stream(self, call: Call, requests: Iterable[object] | None = None) -> Iterator[SyncStream[Any]]:
        """Open the stream of ``call``, through the middleware; leaving the context leaves it."""
        with self._portal().wrap_async_context_manager(self._client.open_stream(call)) as opened:
            stream: SyncStream[Any] = SyncStream(self._wait, opened, requests)
            yield stream
            stream.check_requests()

    def proxy(self, service: str, contract: Callable[..., object], **options: Unpack[CallOptionsDict]) -> Any:
        """Return an object with the methods of ``contract``, a handler's class: they take the same, and wait.

        What is an async iterator in the contract is a plain one here, in both directions. For type checkers, annotate
        what it is kept in with a Protocol of plain functions. Options and errors as `Client.proxy`.
        """
        try:
            kind = self._proxies[contract]
        except (KeyError, TypeError):  # the first of its class, or of no class
            kind = self._proxies[contract] = sync_proxy_class(contract)
        return kind(self, service, options)
