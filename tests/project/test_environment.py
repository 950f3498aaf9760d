"""environment.yml and pyproject.toml ask for the same packages within the same bounds."""

import tomllib

import yaml
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

from support.paths import ROOT

ELSEWHERE = {"matplotlib-base": "matplotlib", "python-duckdb": "duckdb"}
"""conda-forge's names, where they differ."""


def requirements(lines: list[str]) -> dict[str, str]:
    """Return each package's bounds."""
    found = [Requirement(line) for line in lines]
    return {canonicalize_name(ELSEWHERE.get(one.name, one.name)): str(one.specifier) for one in found}


def test_environment_and_pyproject_agree() -> None:
    """Every package of the project stands in both files, with the same bounds."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    extras = [line for lines in project["optional-dependencies"].values() for line in lines]
    declared = requirements([*project["dependencies"], *(line for line in extras if not line.startswith("enrichkit"))])

    listed = yaml.safe_load((ROOT / "environment.yml").read_text())["dependencies"]
    conda = [line for line in listed if isinstance(line, str) and line != "pip"]
    pip = next(line["pip"] for line in listed if isinstance(line, dict))
    assert pip[-1] == "-e ."
    given = requirements([*conda, *pip[:-1]])

    assert given.pop("python") == project["requires-python"]
    assert given == declared
