"""Annotations of w2v2 checked at each call: import hook, decorator."""

import ast
import contextlib
import functools
import importlib.util
import itertools
import marshal
import os
import sys
import types
import typing
from collections.abc import Callable, Iterator, Sequence
from importlib.machinery import ModuleSpec, PathFinder, SourceFileLoader
from pathlib import Path
from typing import Any

import jaxtyping
from beartype import BeartypeConf, beartype

check = beartype(conf=BeartypeConf(is_pep484_tower=True))
"""beartype, where an int is accepted as a float (PEP 484)."""

DECORATOR = "__checked__"
ALL_CHECKED, SOME_CHECKED = 50, 50
"""Of a function's calls in a process these first ones are checked, then one of so many: checks of all took a fifth of the tests' time."""
_CALLS: dict[int, tuple["itertools.count[int]", types.CodeType]] = {}
"""Counts the calls of a function, by the identity of its code: of one inside of another, over all that are made of it."""


def install(package: str) -> None:
    """Functions and dataclasses of a package that is not imported yet are `checked`.

    jaxtyping's own hook (`--jaxtyping-packages`) checks each function twice, at import, and keeps compiled files of
    all libraries that the package imports once more. This one compiles the package alone, and a function is prepared
    at its first call.
    """
    assert package not in sys.modules, f"{package} is already imported"
    sys.meta_path.insert(0, _Finder(package))


def checked(subject: Any) -> Any:
    """A function, or a dataclass by its `__init__`, that raises where a call does not match its annotations.

    Shapes are compared by jaxtyping (`TypeCheckError`), all else by beartype. `jaxtyping.config.jaxtyping_disable`
    turns both off.
    """
    if isinstance(subject, type):
        if "__dataclass_fields__" in vars(subject) and "__init__" in vars(subject):
            subject.__init__ = checked(subject.__init__)  # type: ignore[misc]
        return subject
    verified: Callable[..., Any] | None = None
    code = subject.__code__
    calls, _ = _CALLS.setdefault(id(code), (itertools.count(1), code))

    @functools.wraps(subject)
    def wrapper(*args: Any, **kwargs: Any) -> Any:
        __tracebackhide__ = True
        nonlocal verified
        num_calls = next(calls)
        if jaxtyping.config.jaxtyping_disable or (num_calls > ALL_CHECKED and num_calls % SOME_CHECKED):
            return subject(*args, **kwargs)
        if verified is None:
            verified = _verified(subject)
        return verified(*args, **kwargs)

    return wrapper


def _verified(function: types.FunctionType) -> Callable[..., Any]:
    """The function with its checks, without those of names that only a type checker imports."""
    parts = {name: list(_parts(hint)) for name, hint in function.__annotations__.items()}
    if any(_is_shape(part) for hint in parts.values() for part in hint):
        return jaxtyping.jaxtyped(function, typechecker=check)
    named = [name for name, hint in parts.items() if any(_is_name(part) for part in hint)]
    return check(_annotated(function, {name: _resolved(function, name) for name in named}))


def _parts(hint: Any) -> Iterator[Any]:
    """A hint and all that it is made of."""
    yield hint
    if typing.get_origin(hint) is not typing.Literal:
        for part in (
            hint if isinstance(hint, list) else typing.get_args(hint)
        ):  # a list: arguments of a Callable
            yield from _parts(part)


def _is_shape(part: Any) -> bool:
    return isinstance(part, type) and issubclass(part, jaxtyping.AbstractArray)


def _is_name(part: Any) -> bool:
    return isinstance(part, str | typing.ForwardRef)


def _resolved(function: types.FunctionType, name: str) -> Any:
    """The hint of an argument, by the names of the function's module; Any where one is only in stubs."""
    hint = types.SimpleNamespace(__annotations__={name: function.__annotations__[name]})
    try:
        return typing.get_type_hints(hint, function.__globals__, include_extras=True)[name]
    except (NameError, AttributeError):
        return Any


def _annotated(function: types.FunctionType, changes: dict[str, Any]) -> types.FunctionType:
    """The function with other hints of some arguments."""
    if not changes:
        return function
    copy = types.FunctionType(
        function.__code__,
        function.__globals__,
        function.__name__,
        function.__defaults__,
        function.__closure__,
    )
    copy.__dict__.update(function.__dict__)
    copy.__kwdefaults__, copy.__qualname__ = function.__kwdefaults__, function.__qualname__
    copy.__annotations__ = function.__annotations__ | changes
    return copy


class _Finder:
    """Finds the modules of a package as Python does, with a loader that decorates."""

    def __init__(self, package: str) -> None:
        self.package = package

    def find_spec(
        self, name: str, path: Sequence[str] | None = None, target: types.ModuleType | None = None
    ) -> ModuleSpec | None:
        if name.partition(".")[0] != self.package:
            return None
        spec = PathFinder.find_spec(name, path, target)
        if spec is not None and isinstance(spec.loader, SourceFileLoader):
            spec.loader = _Loader(spec.loader.name, spec.loader.path)
        return spec


class _Loader(SourceFileLoader):
    """Loads a module of which each function and class is decorated, from a compiled file where there is one."""

    def get_code(self, fullname: str) -> types.CodeType:
        source = self.get_data(self.path)
        key = importlib.util.source_hash(source + Path(__file__).read_bytes())
        compiled = Path(importlib.util.cache_from_source(self.path, optimization="checked"))
        if compiled.exists() and (content := compiled.read_bytes()).startswith(key):
            return marshal.loads(content[len(key) :])
        tree = ast.fix_missing_locations(_Decorated().visit(ast.parse(source, self.path)))
        code = compile(tree, self.path, "exec", dont_inherit=True)
        with contextlib.suppress(OSError):  # a checkout that cannot be written is compiled each time
            compiled.parent.mkdir(exist_ok=True)
            part = compiled.with_suffix(f".{os.getpid()}")
            part.write_bytes(key + marshal.dumps(code))
            part.replace(compiled)  # whole or not at all, as two processes of `-n 2` compile at once
        return code

    def exec_module(self, module: types.ModuleType) -> None:
        setattr(module, DECORATOR, checked)
        super().exec_module(module)


class _Decorated(ast.NodeTransformer):
    """Each function is decorated first of all, each class last, as `dataclass` makes its `__init__` before."""

    def visit_FunctionDef(self, node: ast.FunctionDef) -> ast.AST:
        self.generic_visit(node)
        node.decorator_list.append(ast.copy_location(ast.Name(DECORATOR, ast.Load()), node))
        return node

    def visit_ClassDef(self, node: ast.ClassDef) -> ast.AST:
        self.generic_visit(node)
        node.decorator_list.insert(0, ast.copy_location(ast.Name(DECORATOR, ast.Load()), node))
        return node
