"""Tokens and rules from a file and the environment."""

from __future__ import annotations

import tomllib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from micro_core import ConfigError
from micro_extension_auth.auth import Auth

__all__ = ["from_environment"]

_TABLES = {"tokens", "allow", "send"}


def from_environment(environ: Mapping[str, str]) -> Auth:
    """Return what MICRO_AUTH_FILE and MICRO_AUTH_TOKEN say; without them callers need a verified certificate.

    Raises `ConfigError`, without any secret, for what cannot be read.
    """
    path = environ.get("MICRO_AUTH_FILE", "").strip()
    tables = _read(Path(path)) if path else {}
    token = environ.get("MICRO_AUTH_TOKEN", "").strip() or _token_of(tables.get("send", {}), Path(path).parent)
    return Auth(tokens=tables.get("tokens", {}), allow=tables.get("allow"), token=token)


def _read(path: Path) -> dict[str, Any]:
    try:
        tables = tomllib.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise ConfigError(f"MICRO_AUTH_FILE {str(path)!r} cannot be read: {error.strerror}") from error
    except ValueError:
        raise ConfigError(f"MICRO_AUTH_FILE {str(path)!r} is no TOML") from None
    if unknown := tables.keys() - _TABLES:
        raise ConfigError(
            f"MICRO_AUTH_FILE {str(path)!r} has {', '.join(sorted(unknown))}; its tables are tokens, allow and send"
        )
    if not all(isinstance(table, dict) for table in tables.values()):
        raise ConfigError(f"MICRO_AUTH_FILE {str(path)!r}: tokens, allow and send are tables")
    return tables


def _token_of(send: Mapping[str, Any], folder: Path) -> str:
    name = send.get("token_file", "")
    if not isinstance(name, str) or send.keys() - {"token_file"}:
        raise ConfigError("MICRO_AUTH_FILE: the table send has token_file, a path, and nothing else")
    if not name:
        return ""
    try:
        return (folder / name).read_text(encoding="utf-8").strip()
    except (OSError, ValueError):
        raise ConfigError(f"token_file {name!r} cannot be read") from None
