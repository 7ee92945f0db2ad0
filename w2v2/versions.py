"""Versions of this code and of the libraries it runs on.

W2V2 is a constant, not read from the installed package: the nodes of a cluster have this code as a working
directory and need not install it. pyproject.toml takes its version from here.
"""

from importlib.metadata import PackageNotFoundError, version

W2V2 = "0.1.0"
"""The version of this code."""


def library_versions(*names: str) -> dict[str, str]:
    """Version of this code, under "w2v2", and of each library by its distribution's name.

    A library without metadata, such as one on the path that is not installed, has "unknown".
    """
    return {"w2v2": W2V2} | {name: _version(name) for name in names}


def _version(name: str) -> str:
    try:
        return version(name)
    except PackageNotFoundError:
        return "unknown"
