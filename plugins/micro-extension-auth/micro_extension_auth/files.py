"""Tokens and rules from a file, options and the environment."""

from __future__ import annotations

import tomllib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from micro_core import ConfigError
from micro_extension_auth.auth import Auth

__all__ = ["AuthSettings"]

_TABLES = {"tokens", "allow", "send"}


class AuthSettings:
    """Where tokens and rules come from: a file of tables, and the token to send.

    ``path`` goes before MICRO_AUTH_FILE. Of the tokens to send the first counts of: ``token``, the content of
    ``token_file``, MICRO_AUTH_TOKEN, and what the file's table ``send`` names. ``certificates`` says that verified
    certificates alone say who calls.
    """

    def __init__(
        self,
        *,
        path: str = "",
        token: str = "",
        token_file: str = "",
        certificates: bool = False,
        environ: Mapping[str, str],
    ) -> None:
        named = environ.get("MICRO_AUTH_FILE", "").strip()
        self._path = Path(path or named)
        self._source = f"auth file {path!r}" if path else f"MICRO_AUTH_FILE {named!r}"
        self._has_file = bool(path or named)
        self._token = token
        self._token_file = token_file
        self._certificates = certificates
        self._environ = environ

    def auth(self) -> Auth:
        """Return what they say. Raises `ConfigError`, without any secret, for what cannot be read, and for nothing."""
        if self._token and self._token_file:
            raise ConfigError("the options token and token_file exclude each other: which one is to be sent?")
        tables = self._read() if self._has_file else {}
        token = self._token or _content(self._token_file) or self._environ.get("MICRO_AUTH_TOKEN", "").strip()
        token = token or self._sent(tables.get("send", {}))
        if not (tables.get("tokens") or "allow" in tables or token or self._certificates):
            empty = f": {self._source} is empty" if self._has_file else ""
            raise ConfigError(
                f"there is nothing to check and nothing to send{empty}; name a file with tokens or rules "
                "(auth:///etc/auth.toml, or MICRO_AUTH_FILE) or a token to send (MICRO_AUTH_TOKEN), or write "
                "auth://?certificates=on where certificates alone say who calls"
            )
        return Auth(tokens=tables.get("tokens", {}), allow=tables.get("allow"), token=token)

    def _read(self) -> dict[str, Any]:
        try:
            tables = tomllib.loads(self._path.read_text(encoding="utf-8"))
        except OSError as error:
            raise ConfigError(f"{self._source} cannot be read: {error.strerror}") from error
        except (ValueError, RecursionError):
            raise ConfigError(f"{self._source} is no TOML") from None
        if unknown := tables.keys() - _TABLES:
            raise ConfigError(f"{self._source} has {', '.join(sorted(unknown))}; its tables are tokens, allow and send")
        if not all(isinstance(table, dict) for table in tables.values()):
            raise ConfigError(f"{self._source}: tokens, allow and send are tables")
        return tables

    def _sent(self, send: Mapping[str, Any]) -> str:
        name = send.get("token_file", "")
        if not isinstance(name, str) or send.keys() - {"token_file"}:
            raise ConfigError(f"{self._source}: the table send has token_file, a path, and nothing else")
        return _content(str(self._path.parent / name)) if name else ""


def _content(name: str) -> str:
    """Return the token that a file holds. Raises `ConfigError` where it cannot be read, or holds none."""
    if not name:
        return ""
    try:
        token = Path(name).read_text(encoding="utf-8").strip()
    except (OSError, ValueError):
        raise ConfigError(f"token_file {name!r} cannot be read") from None
    if not token:
        raise ConfigError(f"token_file {name!r} is empty")
    return token
