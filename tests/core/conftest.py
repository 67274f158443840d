"""Services in these tests stop at once: no caller is left that has not heard of their end."""

import pytest


@pytest.fixture(autouse=True)
def no_lingering(monkeypatch: pytest.MonkeyPatch) -> None:
    """Have services that say nothing of ``linger`` do without it; the quarter of a second is for callers elsewhere."""
    monkeypatch.setenv("MICRO_LINGER", "0")
