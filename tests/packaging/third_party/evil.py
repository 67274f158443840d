"""Writes a file when it is imported."""

import os
from pathlib import Path
from typing import Any

from micro_core import hookimpl

Path(os.environ["EVIL_FILE"]).write_text("imported", encoding="utf-8")


@hookimpl
def make_registry() -> Any:
    return None
