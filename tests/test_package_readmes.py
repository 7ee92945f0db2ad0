"""Each package has a README that a newcomer can trust: short, and every file that it names exists."""

import ast
import re
from pathlib import Path, PurePath

import pytest

from tests import ROOT

PACKAGES = sorted(path.parent for path in (ROOT / "w2v2").glob("*/**/__init__.py"))
IMPORTS = re.compile(r"^Imports: (?P<names>`\w+`(?:,\s`\w+`)*)\.", re.MULTILINE)
NAMED = re.compile(r"`(?:(?P<folder>\w+)/)?(?P<file>\w+)\.py`")


def test_there_are_packages() -> None:
    assert len(PACKAGES) >= 14


@pytest.mark.parametrize("package", PACKAGES, ids=lambda path: path.name)
def test_a_package_says_what_is_in_it_what_it_imports_and_where_to_begin(package) -> None:
    text = (package / "README.md").read_text()
    assert text.startswith(f"# {package.name}\n")
    assert "\nImports: " in text and "\nBegin with: " in text
    assert len(text.splitlines()) <= (40 if package.name == "models" else 20)


@pytest.mark.parametrize("package", PACKAGES, ids=lambda path: path.name)
def test_every_file_that_a_readme_names_exists(package) -> None:
    text = (package / "README.md").read_text()
    assert NAMED.search(text)
    for match in NAMED.finditer(text):
        base = {None: package, "jobs": ROOT / "jobs"}.get(
            match["folder"], ROOT / "w2v2" / (match["folder"] or "")
        )
        assert (base / f"{match['file']}.py").exists(), f"{package.name}/README.md names {match[0]}"


@pytest.mark.parametrize("package", PACKAGES, ids=lambda path: path.name)
def test_every_file_of_a_package_is_named_in_its_readme(package) -> None:
    text = (package / "README.md").read_text()
    files = {path.name for path in package.glob("*.py")} - {"__init__.py"}
    patterns = re.findall(r"`(\*\w+\.py)`", text)
    unnamed = {
        name for name in files if f"`{name}`" not in text and not any(map(PurePath(name).match, patterns))
    }
    assert not unnamed, f"{package.name}/README.md does not name {sorted(unnamed)}"


@pytest.mark.parametrize("package", PACKAGES, ids=lambda path: path.name)
def test_a_readme_lists_what_its_package_imports(package) -> None:
    listed = IMPORTS.search((package / "README.md").read_text())
    assert listed, f"{package.name}/README.md has no line such as 'Imports: `data`, `errors`.'"
    names = re.findall(r"\w+", listed["names"])
    imported = imported_by(package)
    assert sorted(names) == sorted(imported), f"{package.name}/README.md lists other imports than {imported}"


def imported_by(package: Path) -> set[str]:
    """The packages and modules of w2v2, by their first name, that a package imports from outside of itself, wherever in its code."""
    inside = ".".join(package.relative_to(ROOT).parts) + "."
    modules = {module for path in package.rglob("*.py") for module in modules_in(ast.parse(path.read_text()))}
    outside = {module for module in modules if not f"{module}.".startswith(inside)}
    return {module.split(".")[1] for module in outside if module.startswith("w2v2.")}


def modules_in(tree: ast.Module) -> set[str]:
    """The modules that a file's imports name: those inside functions and under TYPE_CHECKING, too."""
    modules: set[str] = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            modules |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, "imports name the whole path of a module"
            is_root = node.module == "w2v2"
            modules |= {f"w2v2.{alias.name}" for alias in node.names} if is_root else {str(node.module)}
    return modules


def test_imports_are_found_inside_functions_and_under_type_checking() -> None:
    code = """
from typing import TYPE_CHECKING
from w2v2 import wording
if TYPE_CHECKING:
    from w2v2.tables.table import Table
def function():
    import w2v2.audio.decoding
"""
    assert modules_in(ast.parse(code)) == {
        "typing",
        "w2v2.wording",
        "w2v2.tables.table",
        "w2v2.audio.decoding",
    }
