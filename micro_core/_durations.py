"""Durations as Go writes them: ``500ms``, ``5s``, ``1m30s``."""

from __future__ import annotations

import re

__all__ = ["seconds"]

_UNITS = {"ns": 1e-9, "us": 1e-6, "µs": 1e-6, "ms": 1e-3, "s": 1.0, "m": 60.0, "h": 3600.0}
_DURATION = re.compile(r"(?:\d+(?:\.\d*)?|\.\d+)(?:ns|us|µs|ms|s|m|h)", re.ASCII)
_PART = re.compile(r"(\d+(?:\.\d*)?|\.\d+)(ns|us|µs|ms|s|m|h)", re.ASCII)
_NUMBER = re.compile(r"\d+(?:\.\d*)?|\.\d+", re.ASCII)


def seconds(text: str) -> float:
    """Return a duration in seconds; a bare number is seconds already. Raises ValueError for anything else."""
    if _NUMBER.fullmatch(text) and len(text) < 20:
        return float(text)
    if not text or len(text) > 100 or _DURATION.sub("", text):
        raise ValueError(f"{text!r} is no duration, such as 500ms, 5s or 1m")
    return sum(float(number) * _UNITS[unit] for number, unit in _PART.findall(text))
