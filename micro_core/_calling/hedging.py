"""Hedging: a second attempt beside one that is slow; the first answer counts, and the other attempt is cancelled."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import TypeVar

import anyio

__all__ = ["first_answer"]

Answer = TypeVar("Answer")


async def first_answer(
    one: Callable[[], Awaitable[Answer]], other: Callable[[], Awaitable[Answer]], after: float
) -> Answer:
    """Return what ``one`` returns or, where that takes longer than ``after`` seconds, the first answer of both.

    Raises what ``one`` raised, once ``other`` cannot help either.
    """
    answers: list[Answer] = []
    failures: dict[bool, Exception] = {}
    settled = anyio.Event()

    async def run(attempt: Callable[[], Awaitable[Answer]], is_first: bool) -> None:
        try:
            answers.append(await attempt())
            racing.cancel_scope.cancel()
        except Exception as error:
            failures[is_first] = error
        if is_first:
            settled.set()

    async with anyio.create_task_group() as racing:
        racing.start_soon(run, one, True)
        with anyio.move_on_after(after):
            await settled.wait()
        if not settled.is_set():
            racing.start_soon(run, other, False)
    if answers:
        return answers[0]
    raise failures[True]
