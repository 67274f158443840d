"""The entry point ``auth``: what the file that MICRO_AUTH_FILE names says, and the token in MICRO_AUTH_TOKEN."""

from __future__ import annotations

import os
from collections.abc import Mapping

from micro_core import hookimpl
from micro_core.middleware import CallMiddleware, Guard
from micro_extension_auth.files import from_environment

__all__ = ["call_middleware", "credentials", "guard"]


@hookimpl
def guard() -> Guard:
    """Return what refuses callers."""
    return from_environment(os.environ).check


@hookimpl
def call_middleware() -> CallMiddleware:
    """Return what adds our token to calls."""
    return from_environment(os.environ).send


@hookimpl
def credentials() -> Mapping[str, str]:
    """Return what adds our token to what the broker posts."""
    return from_environment(os.environ).credentials()
