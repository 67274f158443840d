"""What the peers of `tls.py` are told by their environment: certificates, the transport, and the work."""

import os
from pathlib import Path

MESSAGES = 200
"""Replies of one stream call."""


def folder() -> Path:
    return Path(os.environ["BENCH_CERTIFICATES"])


def is_clear() -> bool:
    return os.environ["BENCH_PROTOCOL"] == "clear"


def protocol() -> str:
    """Return what is spoken under TLS, as the option ``alpn`` has it."""
    return os.environ["BENCH_PROTOCOL"]


def is_stream() -> bool:
    return os.environ["BENCH_WORK"] == "stream"
