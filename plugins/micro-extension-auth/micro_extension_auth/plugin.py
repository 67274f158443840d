"""The entry point ``auth``: ``auth:///etc/auth.toml?token_file=/run/token``, or what MICRO_AUTH_FILE and _TOKEN say."""

from __future__ import annotations

import os
from collections.abc import Mapping

from micro_core import build, hookimpl
from micro_extension_auth.auth import Auth
from micro_extension_auth.files import AuthSettings

__all__ = ["make_extension"]


@hookimpl
def make_extension(path: str, options: Mapping[str, str]) -> Auth:
    """Return what checks callers and adds our token; the file is read once."""
    return build(AuthSettings, options, path=path, environ=os.environ).auth()
