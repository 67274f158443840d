"""The contract of every kind of micro plugin as pytest classes."""

import pytest

pytest.register_assert_rewrite(
    *(f"micro_conformance.{module}" for module in ("suite", "registry", "selector", "transport", "codec", "broker"))
)

from micro_conformance.registry import RegistryConformance  # noqa: E402
from micro_conformance.suite import promises  # noqa: E402

__all__ = ["RegistryConformance", "promises"]
