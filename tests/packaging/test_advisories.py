"""No distribution allows a release of somebody else's that is known to have a hole (`advisories.toml`)."""

from __future__ import annotations

import datetime
import tomllib
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import pytest
from packaging.requirements import Requirement

ROOT = Path(__file__).parent.parent.parent
FOLDERS = {"micro-core": ROOT, **{path.name: path for path in sorted((ROOT / "plugins").iterdir()) if path.is_dir()}}
LISTED = tomllib.loads(Path(__file__).with_name("advisories.toml").read_text(encoding="utf-8"))


def requirements_of(name: str) -> list[Requirement]:
    project = tomllib.loads((FOLDERS[name] / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    return [Requirement(line) for line in project.get("dependencies", ())]


def allowed(requirements: Iterable[Requirement], advisory: dict[str, Any]) -> list[str]:
    """Return the affected releases that requirements allow: all, where none of them names the package."""
    bounds = [one.specifier for one in requirements if one.name == advisory["package"]]
    return [version for version in advisory["affected"] if all(bound.contains(version) for bound in bounds)]


@pytest.mark.parametrize("advisory", LISTED["advisory"], ids=lambda advisory: advisory["package"])
def test_no_release_with_a_known_hole_is_allowed(advisory: dict[str, Any]) -> None:
    assert advisory["needed_by"]
    for name in advisory["needed_by"]:
        assert allowed(requirements_of(name), advisory) == [], f"{name}: {advisory['ids']} {advisory['about']}"


@pytest.mark.parametrize("name", FOLDERS)
def test_whoever_depends_on_a_listed_package_is_listed(name: str) -> None:
    for requirement in requirements_of(name):
        for advisory in LISTED["advisory"]:
            if requirement.name == advisory["package"]:
                assert name in advisory["needed_by"], requirement


def test_a_bound_that_allows_a_hole_is_found() -> None:
    advisory = {"package": "h11", "affected": ["0.14.0"]}
    assert allowed([Requirement("h11>=0.14")], advisory) == ["0.14.0"]
    assert allowed([Requirement("httpx>=0.28")], advisory) == ["0.14.0"]
    assert allowed([Requirement("h11>=0.16")], advisory) == []


def test_the_list_has_its_date() -> None:
    assert isinstance(LISTED["date"], datetime.date)
