"""Each package has a README that a newcomer can trust: short, and every file that it names exists."""

import re
from pathlib import PurePath

import pytest

from tests import ROOT

PACKAGES = sorted(path.parent for path in (ROOT / "w2v2").glob("*/**/__init__.py"))
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
