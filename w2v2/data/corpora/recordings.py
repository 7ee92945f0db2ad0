"""The recordings of a clinic's folder, found by the names that its tables call them by."""

import json
from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import PurePosixPath

from w2v2.config.data import DataConfig
from w2v2.data.corpora.rows import below
from w2v2.errors import ClipError, Reject, UserError
from w2v2.storage import files as storage
from w2v2.wording import quoted


@dataclass(frozen=True, kw_only=True)
class Recording:
    """One audio file."""

    uri: str
    path: str
    """Below the root; without the file's own name where that is waveform.EXT in a folder of its own."""
    metadata: str
    """The metadata.json next to it; empty where there is none."""

    def is_in(self, studies: Iterable[str]) -> bool:
        """Whether it lies in one of these subfolders of the root."""
        return any(self.path.startswith(f"{study}/") for study in studies)


@dataclass(frozen=True, kw_only=True)
class Recordings:
    """All recordings below a root, by every name that a row may call them."""

    root: str
    studies: tuple[str, ...]
    by_name: Mapping[str, Sequence[Recording]]
    """Files by their names; files in different folders may share a name."""
    by_stem: Mapping[str, Sequence[Recording]]
    """All by their names without suffix."""

    def find(self, name: str, *, study: str) -> Recording | None:
        """The recording of that name, in that study where it is not empty; None if it is in none of the studies.

        Raises ClipError where no recording has that name, and where several have it.
        """
        if study and self.studies and study not in self.studies:
            return None
        hits = self._named(name, study)
        if not hits:
            where = f"{self.root}/{study}" if study else self.root
            raise ClipError(
                "missing", f"no {name} and no {name}/waveform.wav (or .flac, .mp3, ...) below {where}"
            )
        if self.studies:
            hits = [hit for hit in hits if hit.is_in(self.studies)]
        if len(hits) > 1:
            paths = [below(hit.uri, self.root) for hit in hits]
            raise ClipError(
                "found twice",
                f"{name} may be {quoted(paths)}; say which by a column study or by data.studies",
            )
        return hits[0] if hits else None

    def _named(self, name: str, study: str) -> list[Recording]:
        for table in (self.by_name, self.by_stem):
            hits = [hit for hit in table.get(name, ()) if not study or hit.is_in([study])]
            if hits:
                return hits
        return []


def index(root: str, uris: Sequence[str], audio: Sequence[str], *, studies: tuple[str, ...]) -> Recordings:
    """The audio among the files below root. Raises UserError where a study has none."""
    all_uris = set(uris)
    by_name: dict[str, list[Recording]] = defaultdict(list)
    by_stem: dict[str, list[Recording]] = defaultdict(list)
    folders: set[str] = set()
    for uri in audio:
        recording = _recording(root, uri, all_uris)
        folders.update(_folders(recording.path))
        for name in _names(recording.path):
            if _is_named_by_folder(uri, root):
                by_stem[name].append(recording)
            else:
                by_name[name].append(recording)
                by_stem[str(PurePosixPath(name).with_suffix(""))].append(recording)
    if unknown := [study for study in studies if study not in folders]:
        raise UserError(
            f"data.studies names {quoted(unknown)}, where {root} has no recordings; its subfolders with "
            f"recordings are {quoted(sorted(folders)) or 'none'}"
        )
    return Recordings(root=root, studies=studies, by_name=by_name, by_stem=by_stem)


def _recording(root: str, uri: str, uris: set[str]) -> Recording:
    if not _is_named_by_folder(uri, root):
        return Recording(uri=uri, path=below(uri, root), metadata="")
    folder = uri.rpartition("/")[0]
    metadata = f"{folder}/metadata.json"
    return Recording(uri=uri, path=below(folder, root), metadata=metadata if metadata in uris else "")


def _is_named_by_folder(uri: str, root: str) -> bool:
    """Whether the recording is UID/waveform.EXT, so that its folder gives its name and has its metadata."""
    return PurePosixPath(uri).stem.lower() == "waveform" and "/" in below(uri, root)


def _folders(path: str) -> Iterator[str]:
    """The folders above a recording, up to the root."""
    return (str(folder) for folder in PurePosixPath(path).parents if folder.name)


def _names(path: str) -> list[str]:
    """The path, and what is left of it below each of its folders."""
    parts = path.split("/")
    return ["/".join(parts[i:]) for i in range(len(parts))]


def speakers_in(uris: Sequence[str], data: DataConfig) -> dict[str, str | Reject]:
    """The speaker that each metadata.json names ('' where it names none), or why it cannot be read."""
    contents = storage.read_many(uris, num_at_once=data.num_readers)
    return {
        uri: _speaker_in(content, data.speaker_column) for uri, content in zip(uris, contents, strict=True)
    }


def _speaker_in(content: bytes | storage.StorageError, key: str) -> str | Reject:
    if isinstance(content, storage.StorageError):
        return Reject(kind="metadata unreadable", detail=str(content))
    try:
        metadata = json.loads(content)
    except ValueError as error:
        return Reject(kind="metadata not JSON", detail=str(error))
    if not isinstance(metadata, dict):
        return Reject(
            kind="metadata not JSON of keys and values", detail=f"it is a {type(metadata).__name__}"
        )
    speaker = metadata.get(key)
    return "" if speaker is None else str(speaker).strip()
