"""The registry: asks the server, a connection for each question and for each watch."""

from __future__ import annotations

import logging
import secrets
import ssl
from collections.abc import AsyncIterator, Iterator
from contextlib import AbstractAsyncContextManager, asynccontextmanager, contextmanager
from typing import Any, Self

import anyio
from anyio.streams.tls import TLSStream

from micro_core import Change, Closed, Record, Registry, RegistryError, Tls
from micro_core.tasks import OwnedTasks

from .wire import HEARTBEAT_SECONDS, Answer, Latest, Lines, Request

__all__ = ["RosterRegistry"]

log = logging.getLogger("micro.registry.roster")

SILENCE_SECONDS = 4 * HEARTBEAT_SECONDS


class RosterRegistry(Registry):
    """Nodes in a ``space`` of the server at ``address``, which answers within ``timeout`` seconds or is lost."""

    name = "roster"

    def __init__(
        self, *, address: str, space: str = "", secret: str = "", timeout: float = 2.0, tls: Tls | None = None
    ) -> None:
        self._address = address
        self._space = space
        self._secret = secret
        self._timeout = timeout
        self._tls = tls or Tls()
        self._owner = secrets.token_hex(8)
        self._tasks = OwnedTasks()
        self._watches: set[Latest] = set()
        self._open = False

    def __repr__(self) -> str:  # without the secret
        return f"<RosterRegistry {self._address}/{self._space} {'open' if self._open else 'closed'}>"

    async def __aenter__(self) -> Self:
        await self._tasks.__aenter__()
        self._open = True
        return self

    async def register(self, record: Record, *, ttl: float = 60.0) -> None:
        await self._ask("register", record=record, ttl=ttl)

    async def deregister(self, record: Record) -> None:
        await self._ask("deregister", record=record)

    def watch(self, name: str | None = None) -> AbstractAsyncContextManager[AsyncIterator[Change]]:
        return self._watch(name)

    @asynccontextmanager
    async def _watch(self, name: str | None) -> AsyncIterator[AsyncIterator[Change]]:
        self._check()
        with self._failing():
            lines = await self._send(self._request("watch", name=name))
        latest = Latest()
        self._watches.add(latest)
        try:
            self._tasks.start_soon(self._follow, lines, latest)
            yield latest
        finally:
            self._watches.discard(latest)
            await lines.aclose()  # which ends the task that reads them

    async def _follow(self, lines: Lines, latest: Latest) -> None:
        """Read in the background what changes, so that a slow reader holds up nobody, and that the server is lost."""
        try:
            with self._failing():
                while True:
                    with anyio.fail_after(SILENCE_SECONDS):
                        answer = checked(await lines.receive(Answer))
                    if answer.change is not None:
                        latest.put(answer.change)
        except RegistryError as error:
            latest.fail(error)

    async def _ask(self, do: str, record: Record | None = None, ttl: float = 0.0) -> None:
        self._check()
        with self._failing(), anyio.fail_after(self._timeout):
            lines = await self._send(self._request(do, record=record, ttl=ttl))
            try:
                checked(await lines.receive(Answer))
            finally:
                await lines.aclose()

    def _request(self, do: str, **wanted: Any) -> Request:
        return Request(do=do, space=self._space, owner=self._owner, secret=self._secret, **wanted)

    async def _send(self, request: Request) -> Lines:
        """Connect, and send a request."""
        host, _, port = self._address.rpartition(":")
        host = host.strip("[]")
        with anyio.fail_after(self._timeout):
            stream = await anyio.connect_tcp(host, int(port))
            try:
                lines = Lines(await self._wrapped(stream, host) if self._tls.calls else stream)
                await lines.send(request)
            except BaseException:
                await anyio.aclose_forcefully(stream)
                raise
        return lines

    async def _wrapped(self, stream: anyio.abc.SocketStream, host: str) -> TLSStream:
        context = self._tls.for_client(())
        return await TLSStream.wrap(stream, hostname=host, ssl_context=context, standard_compatible=False)

    @contextmanager
    def _failing(self) -> Iterator[None]:
        """Raise as `RegistryError` whatever the libraries underneath raise."""
        try:
            yield
        except TimeoutError as error:
            raise RegistryError(f"the roster at {self._address} does not answer") from error
        except ssl.SSLError as error:
            raise RegistryError(f"the roster at {self._address} and we do not agree on TLS: {error}") from error
        except (OSError, anyio.EndOfStream, anyio.BrokenResourceError, anyio.ClosedResourceError) as error:
            raise RegistryError(f"the roster at {self._address} cannot be reached: {error!r}") from error
        except ValueError as error:
            raise RegistryError(f"what answers at {self._address} is no roster: {error}") from error

    def _check(self) -> None:
        if not self._open:
            raise Closed("the roster registry is not open")

    async def aclose(self) -> None:
        if not self._open:
            return
        for latest in self._watches:
            latest.fail(Closed("the roster registry was closed"))
        try:
            with anyio.CancelScope(shield=True):  # no longer than the timeout
                await self._ask("leave")
        except RegistryError as error:
            log.warning("what was registered runs out by itself: %s", error)
        finally:
            self._open = False
            await self._tasks.aclose()


def checked(answer: Answer) -> Answer:
    """Return an answer that is no error. Raises `RegistryError`."""
    if answer.error:
        raise RegistryError(answer.error, permanent=answer.permanent)
    return answer
