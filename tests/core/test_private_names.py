"""What the core uses of others' insides: one test for each, which says what to do when a release takes it away."""

from __future__ import annotations

import asyncio.tasks
import inspect


def test_asyncio_lets_a_job_be_run_in_the_name_of_a_task() -> None:
    missing = [name for name in ("_enter_task", "_leave_task") if not hasattr(asyncio.tasks, name)]
    assert not missing, (
        f"asyncio.tasks has no {missing} any more: micro_core/_runtime/asyncio_workers.py makes a job's first step in "
        "the name of an idle worker with them; without them have submit() put every job into the queue"
    )
    for function in (asyncio.tasks._enter_task, asyncio.tasks._leave_task):
        try:
            parameters = list(inspect.signature(function).parameters)
        except ValueError:  # written in C without a signature
            continue
        assert parameters == ["loop", "task"], f"{function} takes {parameters} now, no longer loop and task"
