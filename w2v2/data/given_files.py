"""Recordings that are listed on the command line or on standard input, in place of a whole folder."""

import itertools
import os
import sys
from collections.abc import Iterable, Iterator
from dataclasses import replace
from typing import TypeVar

from w2v2.config.data import DataConfig
from w2v2.data.corpora.rows import AUDIO_SUFFIXES
from w2v2.errors import UserError
from w2v2.storage import files as storage

D = TypeVar("D", bound=DataConfig)


def with_given_files(data: D, *, listed: Iterable[str] | None = None) -> D:
    """The data with data.files as absolute uris below data.uri; one folder or one .csv is data.uri itself.

    listed are the lines that '-' stands for, by default the lines of standard input. A data.uri that is a recording is
    one file. Raises UserError for a list without a name, and for places that have no folder in common.
    """
    if data.files and data.uri != "demo" and not _are_below(data):
        named = ", ".join(data.files[:3])
        raise UserError(f"data.uri={data.uri} and the files {named} are given: leave out one of them")
    names = list(_names(data, sys.stdin if listed is None else listed))
    if not names:
        if data.files:
            raise UserError(
                "the list on standard input (-) names no file: write one a line, as `ls *.wav` does"
            )
        return data if data.uri == "demo" else replace(data, uri=storage.expand(data.uri))
    uris = [storage.expand(name) for name in names]
    if len(uris) == 1 and not uris[0].lower().endswith(AUDIO_SUFFIXES):
        return replace(data, uri=uris[0], files=())
    return replace(data, uri=_common_folder(uris), files=tuple(dict.fromkeys(uris)))


def _are_below(data: DataConfig) -> bool:
    """Whether data.uri is the folder of the files, as in settings that this module has made."""
    return all(name.startswith(f"{data.uri}/") for name in data.files)


def _names(data: DataConfig, listed: Iterable[str]) -> Iterator[str]:
    if (
        not data.files
        and data.uri.lower().endswith(AUDIO_SUFFIXES)
        and not os.path.isdir(storage.expand(data.uri))
    ):
        yield data.uri
    for name in data.files:
        if name == "-":
            yield from (line.strip() for line in listed if line.strip())
        else:
            yield name


def _common_folder(uris: list[str]) -> str:
    if len({storage.is_remote(uri) for uri in uris}) > 1:
        raise UserError(
            "files of this machine and of gs:// are given together: predict them one after the other"
        )
    levels = zip(*(uri.split("/")[:-1] for uri in uris), strict=False)
    shared = [names[0] for names in itertools.takewhile(lambda names: len(set(names)) == 1, levels)]
    if storage.is_remote(uris[0]) and len(shared) < 3:
        raise UserError(f"{uris[0]} and {uris[-1]} are in different buckets: take them one after the other")
    return "/".join(shared) or "/"


def recordings(data: DataConfig) -> list[str]:
    """The uris of data.files, in which a folder is replaced by the audio files below it."""
    uris: list[str] = []
    for uri in data.files:
        if uri.lower().endswith(AUDIO_SUFFIXES):
            uris.append(uri)
        else:
            uris += [info.uri for info in storage.list_files(uri, suffixes=AUDIO_SUFFIXES)]
    return list(dict.fromkeys(uris))
