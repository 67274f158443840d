"""What must not be shown: passwords, tokens and keys in configuration."""

from __future__ import annotations

import re
from collections.abc import Mapping

__all__ = ["HIDDEN", "hide_in_address", "hide_in_mapping", "hide_in_text", "is_secret"]

HIDDEN = "***"

_WORDS = "token|passw|pwd|secret|key|credential|auth|private"
_SECRET = re.compile(_WORDS, re.IGNORECASE)
_OPTION = re.compile(rf"([?&,;\s][^=&?,;\s]*(?:{_WORDS})[^=&?,;\s]*=)[^&]*", re.IGNORECASE)
_CREDENTIALS = re.compile(r"://.*@", re.DOTALL)


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
    without_credentials = _CREDENTIALS.sub(f"://{HIDDEN}@", text)
    return _OPTION.sub(rf"\1{HIDDEN}", f" {without_credentials}")[1:201]
