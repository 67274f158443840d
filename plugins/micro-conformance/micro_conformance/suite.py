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
        with anyio.move_on_after(self.patience) as scope:
            await test(self, *arguments, **named)
        if scope.cancelled_caught:
            pytest.fail(f"nothing happened for {self.patience} s")

    return bounded


def promises(suite: type[Suite]) -> Mapping[str, str]:
    """Return the names of a suite's promises, each with the capability that it needs."""
    members = inspect.getmembers(suite, lambda member: getattr(member, "is_promise", False))
    return {name: member.capability for name, member in members}


class Suite:
    """The promises of one kind. Subclass one of its heirs, and give ``plugin`` and ``options``."""

    pytestmark = pytest.mark.anyio

    kind: ClassVar[str]
    capabilities: ClassVar[Mapping[str, str]] = {}
    """What parts of this kind may leave out, and what that means."""

    plugin: ClassVar[Any]
    """The entry point's name, a configuration string, or a class or function that makes the part from ``options``."""
    options: ClassVar[Mapping[str, Any]] = {}
    missing: ClassVar[Mapping[str, str]] = {}
    """Capabilities that the part does not claim, each with the reason."""
    backends: ClassVar[tuple[str, ...]] = ("asyncio", "uvloop", "trio")
    patience: ClassVar[float] = 10.0
    """Seconds that a test may take before it fails."""

    def __init_subclass__(cls) -> None:
        super().__init_subclass__()
        if unknown := set(cls.missing) - set(cls.capabilities):
            known = ", ".join(sorted(cls.capabilities)) or "none"
            raise TypeError(f"{cls.__name__}.missing names {', '.join(sorted(unknown))}; capabilities are: {known}")
        if unknown := set(cls.backends) - set(BACKENDS):
            raise TypeError(
                f"{cls.__name__}.backends names {', '.join(sorted(unknown))}; known are: {', '.join(BACKENDS)}"
            )
        if "anyio_backend" not in cls.__dict__:
            cls.anyio_backend = _backend_fixture(cls.backends)

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

    def make(self, **parts: Any) -> Any:
        """Return a new part, not opened."""
        with self.network.current():
            return make_part(self.kind, self.plugin, self.options, **parts)


def _backend_fixture(backends: tuple[str, ...]) -> Any:
    installed = [name for name in backends if name == "asyncio" or importlib.util.find_spec(name)]

    @pytest.fixture(params=[pytest.param(BACKENDS[name], id=name) for name in installed])
    def anyio_backend(self: Suite, request: pytest.FixtureRequest) -> Any:
        return request.param

    return anyio_backend
