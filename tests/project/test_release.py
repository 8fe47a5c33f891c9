"""What a release says of itself is said alike everywhere."""

from __future__ import annotations

import re
import tomllib
from typing import Any

import pytest
import yaml
from checkout import ROOT
from packaging.requirements import Requirement
from packaging.version import Version

from hda_fsspec import __version__

_CONDA_NAMES = {"netcdf4": "netCDF4", "dask-core": "dask"}


@pytest.fixture(scope="module")
def project() -> dict[str, Any]:
    """Return the project's table of `pyproject.toml`."""
    project: dict[str, Any] = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    return project


def _lower_bounds(requirements: list[str]) -> dict[str, Version]:
    """Return the lowest version that each requirement allows."""
    found = {}
    for requirement in map(Requirement, requirements):
        (lowest,) = (spec for spec in requirement.specifier if spec.operator == ">=")
        found[requirement.name] = Version(lowest.version)
    return found


def test_the_oldest_versions_are_those_that_are_allowed(project: dict[str, Any]) -> None:
    """What is tested as the oldest version is the lower bound, to the last number that it has."""
    lines = (ROOT / ".ci" / "oldest.txt").read_text().splitlines()
    pinned = dict(line.split("==") for line in lines if not line.startswith("#"))
    extras = project["optional-dependencies"]
    allowed = _lower_bounds(project["dependencies"] + extras["distributed"] + extras["geotiff"])

    assert set(allowed) <= set(pinned)
    for name, lowest in allowed.items():
        release = Version(pinned[name]).release
        assert Version(pinned[name]) >= lowest, name
        # A first release that was withdrawn, or has no wheel, may be followed by a patch of it.
        assert release[: min(2, len(lowest.release))] == lowest.release[:2], name


def test_the_recipe_needs_what_the_package_needs(project: dict[str, Any]) -> None:
    """The conda recipe lists the same libraries with the same bounds."""
    text = re.sub(r"\$\{\{.*?\}\}", "x", (ROOT / "conda" / "recipe.yaml").read_text())
    recipe = yaml.safe_load(text)
    needs = [line.split(" ", 1) for line in recipe["requirements"]["run"]]
    found = [_CONDA_NAMES.get(name, name) + bound for name, bound in needs if name != "python"]

    assert sorted(found) == sorted(project["dependencies"])
    assert recipe["context"]["version"] == __version__


def test_the_page_on_versions_tells_the_bounds(project: dict[str, Any]) -> None:
    """The table of the page on versions has the lower bounds of what people pin."""
    page = (ROOT / "docs" / "versions.md").read_text()
    table = dict(re.findall(r"^\| (\w+)[^|]* \| ([\d.]+) \|$", page, re.MULTILINE))
    extras = project["optional-dependencies"]
    grib = [line for line in extras["grib"] if line.startswith("cfgrib")]
    allowed = _lower_bounds(project["dependencies"] + extras["geotiff"] + grib)

    assert table
    assert {name: Version(told) for name, told in table.items()} == {
        name: allowed[name] for name in table
    }
