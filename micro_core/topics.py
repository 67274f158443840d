"""Topics and the patterns that stand for several (docs/broker.md)."""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache
from typing import Final

__all__ = ["fits", "is_pattern", "topic_problem"]

_LONGEST_TOPIC: Final = 255
"""Bytes."""


def is_pattern(topic: str) -> bool:
    """Return whether a topic is a pattern for several."""
    return "*" in topic or ">" in topic


def fits(topic: str, pattern: str) -> bool:
    """Return whether a topic is, or fits the pattern, ``pattern``."""
    if not is_pattern(pattern):
        return topic == pattern
    parts, wanted = topic.split("."), pattern.split(".")
    if wanted[-1] == ">":
        return len(parts) >= len(wanted) and _fit(parts, wanted[:-1])
    return len(parts) == len(wanted) and _fit(parts, wanted)


def _fit(parts: Sequence[str], wanted: Sequence[str]) -> bool:
    return all(one in ("*", part) for one, part in zip(wanted, parts, strict=False))


def topic_problem(topic: object, *, pattern: bool = False) -> str:
    """Return why a topic cannot be one, or an empty text."""
    return _text_problem(topic, pattern) if isinstance(topic, str) else "a topic is a text"


@lru_cache(maxsize=4096)
def _text_problem(topic: str, pattern: bool) -> str:
    if not topic:
        return "it is empty"
    if not topic.isprintable() or " " in topic:
        return "a topic has no spaces and no control characters"
    parts = topic.split(".")
    if not all(parts):
        return "a part between its dots is empty"
    if len(topic.encode("utf-8", "surrogatepass")) > _LONGEST_TOPIC:
        return f"it has more than {_LONGEST_TOPIC} bytes"
    if not is_pattern(topic):
        return ""
    if not pattern:
        return "it is a pattern, which can be subscribed to alone"
    if any(is_pattern(part) and part not in ("*", ">") for part in parts) or ">" in parts[:-1]:
        return "'*' stands for a whole part between dots, '>' for all that follow, at the end"
    return ""
