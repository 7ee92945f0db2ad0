"""The first screen of a job's help: the flags that matter most, with their defaults, and two examples."""

from collections.abc import Mapping
from dataclasses import MISSING, dataclass, fields, is_dataclass
from typing import get_type_hints

from w2v2.config.spelling import MAIN_FIELDS
from w2v2.job_commands import command_of

DATA = "a folder or gs:// prefix of audio, or a .csv with a clip a row"
RUN = "the run directory, local or gs://; the same one resumes"
ENCODER = "a hub name, a folder, gs://, or tiny (small, random weights)"
TRAIN = "what is trained: all, no_conv, last (layers) or head"
CACHE = "the cache of the outputs of frozen parts, local or gs://"
GPUS = "GPUs of a worker, fractions allowed"
WORKERS = "workers that train one model together"
LAYOUT = "how to read data: auto, csv, files, or a corpus's name"
MODEL = "the model folder of a finetune run, local or gs://"
COMPUTING = "workers at once; 0 is as many as fit"


@dataclass(frozen=True, kw_only=True)
class Guide:
    """The content of the first screen of a job's help."""

    command: str
    """The job's name in the command `w2v2`."""
    summary: str
    """The purpose of the job, in a sentence."""
    flags: Mapping[str, str]
    """Paths of about ten fields, with what each means in a few words."""
    examples: tuple[str, str]
    """Two lines to type, each with its comment."""
    usage: str = ""
    """Arguments that are given without a flag."""

    def text(self, config_class: type) -> str:
        """The screen."""
        shown = {_flag(path, config_class): (path, words) for path, words in self.flags.items()}
        width = max(map(len, shown)) + 2
        command = command_of(self.command.replace("-", "_"))
        lines = [f"usage: {command} {self.usage}[--flag VALUE ...] [--config FILE.yaml]", ""]
        lines += [self.summary, ""]
        for flag, (path, words) in shown.items():
            lines.append(f"  {flag:<{width}}{words}{_default_note(config_class, path)}")
        lines += [
            "",
            *(f"  {example.replace(f'w2v2 {self.command}', command)}" for example in self.examples),
            "",
        ]
        lines.append("--help all lists every setting, by section. A YAML file nests them; flags win over it.")
        return "\n".join(lines)


def _flag(path: str, config_class: type) -> str:
    """The shortest flag of a field."""
    section, _, name = path.partition(".")
    is_main = is_dataclass(get_type_hints(config_class).get(section)) and MAIN_FIELDS.get(section) == name
    return f"--{section}" if is_main else f"--{path}"


def _default_note(config_class: type, path: str) -> str:
    value = default_at(config_class, path)
    return (
        f" ({value:g})"
        if isinstance(value, float)
        else f" ({value})"
        if value and value is not MISSING
        else ""
    )


def default_at(config_class: type, path: str) -> object:
    """The default of a field; MISSING for a field that must be given. Raises AttributeError for an unknown field.

    >>> from w2v2.config.tune_folds import TuneFoldsConfig
    >>> default_at(TuneFoldsConfig, "search.num_trials")
    6
    """
    name, _, below = path.partition(".")
    fields_by_name = {field.name: field for field in fields(config_class)}
    if name not in fields_by_name:
        raise AttributeError(f"{config_class.__name__} has no field {name}")
    field = fields_by_name[name]
    value = field.default if field.default_factory is MISSING else field.default_factory()
    return default_at(type(value), below) if below else value
