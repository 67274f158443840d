"""What is run, and by whom: a job is one call under way, a runner gives it a task."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Coroutine
from typing import Any, Protocol

import anyio

__all__ = ["Job", "Runner"]


class Job(Protocol):
    """One piece of work. Its coroutine raises nothing but the cancellation that the runner caused."""

    deadline: float
    """On the clock of the event loop; `math.inf` for none."""

    def run(self) -> Coroutine[Any, Any, None]:
        """Return the coroutine that does the work."""

    def waits(self, scope: anyio.CancelScope) -> None:
        """Note that the job waits for something, and the scope that cancels it and nobody else."""


class Runner(ABC):
    """Runs jobs."""

    @abstractmethod
    def submit(self, job: Job) -> None:
        """Run ``job`` soon."""

    @abstractmethod
    async def aclose(self) -> None:
        """Cancel what runs, and wait for it, bounded in time. Nothing is run any more. Closing twice is fine."""
