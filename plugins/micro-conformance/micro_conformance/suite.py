"""What all suites share: how a part is made, on which event loops, and how promises are marked and left out."""

from __future__ import annotations

import functools
import importlib.util
import inspect
import secrets
from collections.abc import Awaitable, Callable, Mapping
from typing import Any, ClassVar, TypeVar

import anyio
import pytest

from micro_conformance.proxy import TcpProxy
from micro_core import MicroError
from micro_core.testing import MemoryNetwork, make_part

__all__ = ["SOON", "Suite", "promise", "promises"]

Test = TypeVar("Test", bound=Callable[..., Any])

SOON = 0.3
"""Seconds until a deadline that is to pass: whatever does not wait for it is over by then, on a busy machine too."""

BACKENDS: Mapping[str, tuple[str, dict[str, Any]]] = {
    "asyncio": ("asyncio", {"use_uvloop": False}),
    "uvloop": ("asyncio", {"use_uvloop": True}),
    "trio": ("trio", {}),
}

RAW = "What a part's methods raise is a MicroError, raised from what its library raised: this one is none."


def promise(*, needs: str = "") -> Callable[[Test], Test]:
    """Mark a test of a suite as a promise; one that ``needs`` a capability is left out for parts that do not claim it.

    An async test is bounded by the suite's ``patience``.
    """

    def mark(test: Test) -> Test:
        if inspect.iscoroutinefunction(test):
            marked: Any = _bounded(test)
        else:
            marked = test
        marked.capability = needs
        marked.is_promise = True
        return marked  # type: ignore[no-any-return]

    return mark


def _bounded(test: Callable[..., Awaitable[None]]) -> Callable[..., Awaitable[None]]:
    @functools.wraps(test)
    async def bounded(self: Suite, *arguments: Any, **named: Any) -> None:
        try:
            with anyio.move_on_after(self.patience) as scope:
                await test(self, *arguments, **named)
        except (MicroError, AssertionError):
            raise
        except Exception as error:
            error.add_note(RAW)
            raise
        if scope.cancelled_caught:
            pytest.fail(f"nothing happened for {self.patience} s")

    return bounded


def promises(suite: type[Suite]) -> Mapping[str, str]:
    """Return the names of a suite's promises, each with the capability that it needs."""
    members = inspect.getmembers(suite, lambda member: getattr(member, "is_promise", False))
    return {name: member.capability for name, member in members}


class Suite:
    """The promises of one kind. Subclass one of its heirs, and give ``plugin``, and ``options`` where there are some.

    What is known at run time alone, a fixture of the class assigns: ``self.server``, ``self.plugin``, ``self.options``.
    """

    pytestmark = pytest.mark.anyio

    kind: ClassVar[str]
    capabilities: ClassVar[Mapping[str, str]] = {}
    """What parts of this kind may leave out, and what that means."""

    plugin: Any
    """The entry point's name, a configuration string, or a class or function that makes the part from ``options``."""
    options: Mapping[str, Any] = {}
    """What a configuration string says behind the ``?``."""
    server: str = ""
    """The address of the server that the part talks to; it stands where ``plugin`` and ``options`` say ``{server}``."""
    missing: ClassVar[Mapping[str, str]] = {}
    """Capabilities and event loops that the part does not claim, each with the reason."""
    patience: ClassVar[float] = 10.0
    """Seconds that a test may take before it fails."""
    largest_body: ClassVar[int] = 1024 * 1024
    """Bytes of the largest body that is sent; less for an engine that takes less."""

    def __init_subclass__(cls) -> None:
        super().__init_subclass__()
        if unknown := set(cls.missing) - set(cls.capabilities) - set(BACKENDS):
            known = ", ".join([*sorted(cls.capabilities), *BACKENDS])
            raise TypeError(f"{cls.__name__}.missing names {', '.join(sorted(unknown))}; what can be left out: {known}")
        if "anyio_backend" not in cls.__dict__:
            cls.anyio_backend = _backend_fixture(cls.missing)

    @pytest.fixture(autouse=True)
    def _leave_out_what_is_not_claimed(self, request: pytest.FixtureRequest) -> None:
        capability = getattr(request.function, "capability", "")
        if capability in self.missing:
            pytest.skip(f"not claimed: {capability}, {self.missing[capability]}")

    anyio_backend: ClassVar[Any]

    @functools.cached_property
    def network(self) -> MemoryNetwork:
        """Where memory parts of one test meet."""
        return MemoryNetwork()

    @functools.cached_property
    def unique(self) -> str:
        """A text that no other test uses, for names in places that others see."""
        return secrets.token_hex(4)

    def make(self, *, server: str = "", **parts: Any) -> Any:
        """Return a new part, not opened, which talks to ``server`` where that is not the suite's own."""
        place = server or self.server
        options = {name: _filled(value, place) for name, value in self.options.items()}
        with self.network.current():
            return make_part(self.kind, _filled(self.plugin, place), options, **parts)

    def proxy(self) -> TcpProxy:
        """Return a proxy before the part's server; a test that asks for one is left out where there is no server.

        A part that was made with ``server=proxy.address`` and whose proxy is down has died, as far as anybody can tell.
        """
        if not self.server:
            pytest.skip(f"not claimed: server, {self.missing.get('server', '`server` is not given')}")
        return TcpProxy(self.server)

    async def restart_server(self) -> None:
        """Stop the server and start it anew at the same address, without what it held in memory alone.

        Override it; tests that ask for it are left out otherwise.
        """
        pytest.skip("not claimed: restart, `restart_server` is not overridden")


def _filled(value: Any, server: str) -> Any:
    """Return a plugin or an option with the server's address where it says ``{server}``."""
    if not isinstance(value, str) or "{server}" not in value:
        return value
    if not server:
        pytest.fail(f"{value!r} needs the server's address: set `server`, or `self.server` in a fixture")
    return value.replace("{server}", server)


def _backend_fixture(missing: Mapping[str, str]) -> Any:
    installed = [name for name in BACKENDS if name == "asyncio" or importlib.util.find_spec(name)]

    @pytest.fixture(
        params=[pytest.param(BACKENDS[name], id=name, marks=_left_out(name, missing)) for name in installed]
    )
    def anyio_backend(self: Suite, request: pytest.FixtureRequest) -> Any:
        return request.param

    return anyio_backend


def _left_out(backend: str, missing: Mapping[str, str]) -> list[pytest.MarkDecorator]:
    return [pytest.mark.skip(reason=f"not claimed: {backend}, {missing[backend]}")] if backend in missing else []
