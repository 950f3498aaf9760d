"""A wheel holds every file that the package needs: an editable install would hide one that is missing."""

from __future__ import annotations

import tomllib
from pathlib import Path

from support.paths import PACKAGE, ROOT

WANTED = {".py", ".pyi", ".txt", ".typed"}


def packed() -> set[str]:
    """Return what setuptools puts into a wheel, by its settings in pyproject.toml."""
    from setuptools import Distribution, find_namespace_packages

    settings = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["tool"]["setuptools"]
    data = {"" if name == "*" else name: patterns for name, patterns in settings["package-data"].items()}
    packages = find_namespace_packages(str(ROOT), **settings["packages"]["find"])
    distribution = Distribution({"packages": packages, "package_data": data, "script_name": "setup.py"})
    command = distribution.get_command_obj("build_py")
    command.ensure_finalized()
    return {Path(file).relative_to(command.build_lib).as_posix() for file in command.get_outputs(False)}


def test_a_wheel_holds_every_module_stub_and_prompt(monkeypatch) -> None:
    """Each wing, what it offers to type checkers, and the texts that are asked."""
    monkeypatch.chdir(ROOT)
    tree = {path.relative_to(ROOT).as_posix() for path in PACKAGE.rglob("*") if path.suffix in WANTED}
    assert tree <= packed()
    assert {"enrichkit/py.typed", "enrichkit/stages/__init__.pyi", "enrichkit/stages/prompts/poc.txt"} <= tree
