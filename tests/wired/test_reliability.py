"""What holds while things fail, each row of docs/reliability.md for a second or two."""

from __future__ import annotations

import os
import sys
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parent / "python"))

from reliability.row import TEST, Row
from reliability.rows import ROWS

pytestmark = pytest.mark.anyio


@pytest.mark.parametrize(
    "row", [pytest.param(row, id=f"{row.kind}: {row.fault}"[:60]) for row in ROWS if not row.only_in_report]
)
async def test_it_holds(row: Row, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in [name for name in os.environ if name.startswith("MICRO_")]:
        monkeypatch.delenv(name)
    measured = await row.measure(TEST)
    assert measured.is_met, f"{row.fault}: {row.goal}; measured: {measured.text}"
