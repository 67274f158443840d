"""What the core uses of others' insides: one test for each, which says what to do when a release takes it away."""

from __future__ import annotations

import asyncio.tasks
import inspect
from typing import Protocol

import pydantic


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


class Contract(Protocol):
    pass


class Implementation(Contract):
    pass


def test_typing_says_which_class_is_a_protocol() -> None:
    assert vars(Contract).get("_is_protocol") is True, (
        "typing marks a Protocol no longer with _is_protocol: micro_core/_app/contract.py tells by it what is "
        "to be implemented; use typing.is_protocol, which is there from Python 3.13 on"
    )
    assert not getattr(Implementation, "_is_protocol", True)


class Model(pydantic.BaseModel):
    pass


def test_pydantic_marks_its_models() -> None:
    assert hasattr(Model, "__pydantic_core_schema__"), (
        "pydantic's classes have no __pydantic_core_schema__ any more: micro_core/builtin/json/payload_types.py knows "
        "models by it, without importing pydantic; find what they have instead"
    )
