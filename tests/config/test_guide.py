"""The first screen of every job's help: short, true to the settings, and with lines that are parsed."""

import importlib
import shlex

import pytest

from w2v2.command import JOBS, main
from w2v2.config.command_line import field_paths, listed_words, parse


def module_of(job: str):
    return importlib.import_module(f"w2v2.jobs.{job.replace('-', '_')}")


def config_class_of(job: str) -> type:
    (config_class,) = {
        v
        for v in module_of(job).main.__annotations__.values()
        if getattr(v, "__name__", "").endswith("Config")
    }
    return config_class


@pytest.mark.parametrize("job", JOBS)
def test_help_is_a_screen_with_two_examples(job, capsys):
    assert main([job, "--help"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert len(lines) <= 40 and max(map(len, lines)) <= 120
    assert lines[0].startswith(f"usage: w2v2 {job} ")
    assert sum(line.startswith(f"  w2v2 {job}") for line in lines) == 2
    assert len([line for line in lines if line.startswith("  --")]) <= 11
    assert lines[-1].startswith("--help all")


@pytest.mark.parametrize("job", JOBS)
def test_every_flag_of_the_screen_is_a_field(job):
    assert set(module_of(job).GUIDE.flags) <= set(field_paths(config_class_of(job)))


@pytest.mark.parametrize("job", [job for job in JOBS if job != "benchmark"])
def test_the_examples_are_parsed(job, tmp_path):
    for example in module_of(job).GUIDE.examples:
        words = shlex.split(example, comments=True)[2:]
        if "--config" not in words:
            listed = {"compare": "runs", "predict": "data.files", "evaluate": "data.files"}.get(job, "")
            config = parse(config_class_of(job), listed_words(words, listed) if listed else words)
            assert isinstance(config, config_class_of(job))


def test_help_of_a_script_names_the_script(monkeypatch, capsys):
    monkeypatch.setattr("sys.argv", ["jobs/finetune.py", "--help"])
    assert main(["finetune", "--help"]) == 0
    text = capsys.readouterr().out
    assert text.startswith("usage: python jobs/finetune.py ") and "w2v2 finetune" not in text


def test_help_all_lists_every_setting_by_section(capsys):
    with pytest.raises(SystemExit) as stopped:
        main(["finetune", "--help", "all"])
    text = capsys.readouterr().out
    assert stopped.value.code == 0
    assert "--checkpoint.keep" in text and "--resources.precision" in text and len(text.splitlines()) > 200
