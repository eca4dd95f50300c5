"""What is installed is whole, and what README and changelog say of it is true."""

import importlib
import re
import sys
import tomllib
from importlib.machinery import EXTENSION_SUFFIXES
from importlib.metadata import distribution, version
from importlib.util import find_spec
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
PACKAGES = ("reactor", "protocols")


def package_directory(package: str) -> Path:
    spec = find_spec(package)
    assert spec is not None
    assert spec.origin is not None
    return Path(spec.origin).parent


def extension_modules() -> list[str]:
    found = []
    for package in PACKAGES:
        directory = package_directory(package)
        for path in directory.rglob("*"):
            if any(path.name.endswith(suffix) for suffix in EXTENSION_SUFFIXES):
                parts = path.relative_to(directory.parent).parts
                found.append(".".join([*parts[:-1], path.name.partition(".")[0]]))
    return sorted(found)


def readme_commands() -> list[str]:
    """Return the README's indented lines that are commands for a newcomer, in order."""
    text = (ROOT / "README.md").read_text()
    return re.findall(r"^    (python3 -m venv .*)$", text, re.MULTILINE)


def test_readme_has_one_command_to_run_and_one_to_test() -> None:
    run, test = readme_commands()
    assert run.endswith(".venv/bin/cyfetch")
    assert test.endswith(".venv/bin/pytest")


def test_ci_calls_the_second_command_of_the_readme() -> None:
    script = (ROOT / ".ci" / "run").read_text()
    installation, _, tests = readme_commands()[1].rpartition(" && ")
    assert f"installed() {{ {installation}; }}" in script
    assert f"\n    {tests} 2>&1 |" in script


def test_changelog_tells_of_the_installed_version() -> None:
    assert f"\n## {version('cyreactor')} " in (ROOT / "CHANGELOG.md").read_text()


def test_installed_version_is_that_of_the_tree() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    assert version("cyreactor") == project["version"]


@pytest.mark.parametrize("module", extension_modules())
def test_extension_module_imports_and_ships_its_declarations(module: str) -> None:
    imported = importlib.import_module(module)
    assert imported.__file__ is not None
    path = Path(imported.__file__)
    stem = path.with_name(path.name.partition(".")[0])
    assert stem.with_suffix(".pxd").exists()
    assert stem.with_suffix(".pyi").exists()


@pytest.mark.parametrize("package", PACKAGES)
def test_package_says_that_it_is_typed(package: str) -> None:
    assert (package_directory(package) / "py.typed").exists()


@pytest.mark.parametrize("package", PACKAGES)
def test_package_has_an_extension_module_for_this_python(package: str) -> None:
    assert any(module.startswith(f"{package}.") for module in extension_modules())


def test_console_script_is_installed_and_its_function_exists() -> None:
    [script] = distribution("cyreactor").entry_points.select(name="cyfetch")
    assert callable(script.load())
    assert (Path(sys.executable).parent / "cyfetch").exists()


@pytest.mark.parametrize("package", PACKAGES)
def test_installed_package_holds_no_cython_source_and_no_c(package: str) -> None:
    directory = package_directory(package)
    if directory == ROOT / package:
        pytest.skip("an editable install is the source tree")
    suffixes = {path.suffix for path in directory.rglob("*") if path.is_file()}
    assert not suffixes & {".pyx", ".c", ".html"}
