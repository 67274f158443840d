"""What must not be shown: passwords, tokens and keys in configuration."""

from __future__ import annotations

import re
from collections.abc import Mapping
from urllib.parse import unquote

__all__ = ["HIDDEN", "hide_in_address", "hide_in_mapping", "hide_in_text", "is_secret"]

HIDDEN = "***"

_SECRET = re.compile(
    r"token|passw|passphrase|passcode|pwd|secret|key|credential|auth|private|bearer|jwt|cookie|signature"
    r"|pass(?![a-z])|(?<![a-z])(?:pw|sas|sig|pin)(?![a-z])",
    re.IGNORECASE,
)
_OPTION = re.compile(r"([?&,;\s])([^=&?,;\s]*)=([^&]*)")
_CREDENTIALS = re.compile(r"://.*", re.DOTALL)
_WITHOUT_SCHEME = re.compile(r"(?<![^/?@])[^/?@]*:(?!//).*", re.DOTALL)
"""``user:password`` before an ``@``: not part of the grammar, but written by people who think of a URL."""


def is_secret(name: str) -> bool:
    """Tell whether the value of an option, or of a key in metadata, is to be hidden, by its name."""
    return _SECRET.search(name) is not None


def hide_in_address(address: str) -> str:
    """Return an address without what stands before its ``@``."""
    return f"{HIDDEN}@{address.rpartition('@')[2]}" if "@" in address else address


def hide_in_mapping(values: Mapping[str, str]) -> dict[str, str]:
    """Return the values, those with a secret's name hidden."""
    return {key: HIDDEN if is_secret(key) else value for key, value in values.items()}


def hide_in_text(text: str) -> str:
    """Return 200 characters of a configuration string, well-formed or not, without anything that may be a secret."""
    before, at, after = text.rpartition("@")  # once, for the expressions to take time in proportion to the text
    shown = _CREDENTIALS.sub(f"://{HIDDEN}", _WITHOUT_SCHEME.sub(HIDDEN, before)) + at + after
    return _OPTION.sub(_hide_option, f" {shown}")[1:201]


def _hide_option(found: re.Match[str]) -> str:
    """Return an option, without its value where its name is a secret's, or hides what it is in an encoding."""
    before, name, value = found.groups()
    readable = unquote(unquote(name))
    hides = "%" in readable or is_secret(readable) or is_secret(name)
    return f"{before}{name}={HIDDEN if hides else value}"
