"""Calls that do not match their annotations are errors while tests run."""

import importlib
import sys
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType

import beartype.roar
import jaxtyping
import numpy as np
import pytest

from tests import type_checks

SOURCE = '''
"""A module of a package that is checked."""

import colorsys
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

import numpy as np
from jaxtyping import Float

if TYPE_CHECKING:
    from nowhere import Missing


def double(number: float, kind: Literal["a", "b"] = "a") -> int:
    return 2 * number


def later(name: "Settings", other: "Missing | None", count: int = 0, hue: "colorsys.Hue" = 0) -> "Settings":
    return name


def added(x: Float[np.ndarray, "n"], y: Float[np.ndarray, "n"]) -> Float[np.ndarray, "n"]:
    return x[:1] + y[:1]


def counted(numbers: list[int]):
    def inner(number: int) -> int:
        return number

    return [inner(number) for number in numbers]


@dataclass(frozen=True, kw_only=True)
class Settings:
    size: int = 1

    @property
    def wrong(self) -> str:
        return self.size

    @classmethod
    def of(cls, size: int) -> "Settings":
        return cls(size=size)
'''


@pytest.fixture
def module(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[ModuleType]:
    """A module of a new package, imported through the hook."""
    (tmp_path / "package_of_a_test").mkdir()
    (tmp_path / "package_of_a_test" / "__init__.py").write_text("")
    (tmp_path / "package_of_a_test" / "module.py").write_text(SOURCE)
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.setattr(sys, "meta_path", list(sys.meta_path))
    monkeypatch.delitem(sys.modules, "colorsys", raising=False)
    type_checks.install("package_of_a_test")
    yield importlib.import_module("package_of_a_test.module")
    for name in ("package_of_a_test", "package_of_a_test.module"):
        sys.modules.pop(name, None)


def test_arguments_and_results_are_checked(module: ModuleType) -> None:
    assert module.double(3) == 6 and module.double(3, "b") == 6 and module.counted([1]) == [1]
    assert module.Settings.of(2).size == 2
    for wrong in (
        lambda: module.double("3"),
        lambda: module.double(3, "c"),
        lambda: module.double(1.5),
        lambda: module.counted(["1"]),
        lambda: module.Settings(size="1"),
        lambda: module.Settings.of("2"),
        lambda: module.Settings().wrong,
    ):
        with pytest.raises(beartype.roar.BeartypeCallHintViolation):
            wrong()


def test_shapes_are_checked_across_arguments_and_result(module: ModuleType) -> None:
    assert module.added(np.ones(1), np.ones(1)).tolist() == [2]
    for x, y in ((np.ones(2), np.ones(3)), (np.ones(2), np.ones(2)), (np.ones(1), [1.0])):
        with pytest.raises(jaxtyping.TypeCheckError):
            module.added(x, y)


def test_names_are_those_of_the_module_and_what_only_a_type_checker_imports_is_not_checked(
    module: ModuleType,
) -> None:
    settings = module.Settings()
    assert module.later(settings, 3) is settings
    for wrong in (lambda: module.later(3, 3), lambda: module.later(settings, None, "0")):
        with pytest.raises(beartype.roar.BeartypeCallHintViolation):
            wrong()


def test_of_many_calls_some_are_checked(module: ModuleType) -> None:
    for _ in range(type_checks.ALL_CHECKED):
        with pytest.raises(beartype.roar.BeartypeCallHintViolation):
            module.double("3")
    num_refused = 0
    for _ in range(10 * type_checks.SOME_CHECKED):
        try:
            assert module.double("3") == "33"
        except beartype.roar.BeartypeCallHintViolation:
            num_refused += 1
    assert num_refused == 10


def test_checks_can_be_turned_off(module: ModuleType, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(jaxtyping.config, "jaxtyping_disable", True)
    assert module.double("3") == "33" and module.added(np.ones(2), np.ones(3)).tolist() == [2]


def test_the_package_alone_is_compiled_and_again_where_it_changes(module: ModuleType, tmp_path: Path) -> None:
    folder = tmp_path / "package_of_a_test"
    assert {path.name.partition(".")[0] for path in folder.rglob("*checked*.pyc")} == {"__init__", "module"}
    library = Path(sys.modules["colorsys"].__file__)
    assert list(library.parent.glob("__pycache__/colorsys.*checked*")) == []
    (folder / "module.py").write_text(SOURCE.replace("2 * number", "3 * number"))
    del sys.modules["package_of_a_test.module"]
    assert importlib.import_module("package_of_a_test.module").double(3) == 9
