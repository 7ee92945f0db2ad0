"""The docstring of a public function that raises a UserError or StorageError says so, with the word Raises."""

import ast
from collections.abc import Iterator

from tests import ROOT

FUNCTIONS = ast.FunctionDef | ast.AsyncFunctionDef


def error_classes(trees: list[ast.Module]) -> set[str]:
    """UserError and the classes derived from it, directly or not."""
    classes = [node for tree in trees for node in ast.walk(tree) if isinstance(node, ast.ClassDef)]
    found: set[str] = set()
    derived = {"UserError"}
    while derived:
        found |= derived
        derived = {cls.name for cls in classes if found & set(map(name_of, cls.bases))} - found
    return found


def name_of(node: ast.expr | None) -> str:
    """UserError of UserError, errors.UserError and UserError("...")."""
    match node:
        case ast.Call():
            return name_of(node.func)
        case ast.Attribute():
            return node.attr
        case ast.Name():
            return node.id
    return ""


def public_functions(body: list[ast.stmt], prefix: str = "") -> Iterator[tuple[str, FUNCTIONS]]:
    """The functions and methods without an underscore in front, of classes without one, by name."""
    for node in body:
        if isinstance(node, ast.ClassDef | FUNCTIONS) and not node.name.startswith("_"):
            if isinstance(node, ast.ClassDef):
                yield from public_functions(node.body, f"{prefix}{node.name}.")
            else:
                yield prefix + node.name, node


def raising(tree: ast.Module, errors: set[str]) -> dict[str, bool]:
    """Whether the docstring of each public function with a `raise` of one of these errors says so."""
    return {
        name: "raises" in (ast.get_docstring(function) or "").lower()
        for name, function in public_functions(tree.body)
        if any(isinstance(node, ast.Raise) and name_of(node.exc) in errors for node in ast.walk(function))
    }


def test_docstrings_of_public_functions_say_which_errors_are_raised() -> None:
    trees = {path: ast.parse(path.read_text()) for path in sorted((ROOT / "w2v2").rglob("*.py"))}
    errors = error_classes([*trees.values()])
    assert {"StorageError", "NotFoundError", "FullError", "HubError"} <= errors
    says_so = {
        f"{path.relative_to(ROOT)} {name}": says
        for path, tree in trees.items()
        for name, says in raising(tree, errors).items()
    }
    assert len(says_so) > 80
    silent = [name for name, says in says_so.items() if not says]
    assert not silent, f"docstrings that lack 'Raises ...Error where ...': {silent}"


def test_a_docstring_without_the_word_is_found() -> None:
    source = '''
class LostError(uris.NotFoundError): ...
class NotFoundError(UserError): ...
class Store:
    def read(self):
        """The content; LostError where there is none."""
        raise storage.LostError("no file")
    def write(self):
        """Write. Raises NotFoundError where the folder is missing."""
        raise NotFoundError("no folder") from None
    def _list(self):
        raise NotFoundError("private")
def number():
    """A number."""
    raise AssertionError
async def stat():
    raise UserError
'''
    tree = ast.parse(source)
    assert raising(tree, error_classes([tree])) == {"Store.read": False, "Store.write": True, "stat": False}
