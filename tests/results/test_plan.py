"""--plan true: what a job would do is reported without Ray, and nothing is written but the clips as they were understood."""

import logging
import re
import shlex
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile

from tests.made.corpora import clinic_corpus, deam_corpus, sentences_csv, write_csv
from w2v2.cluster import connection
from w2v2.config import command_line
from w2v2.config.baseline import BaselineConfig
from w2v2.config.finetune import FinetuneConfig
from w2v2.config.pretrain import PretrainConfig
from w2v2.config.tune_folds import TuneFoldsConfig
from w2v2.data import manifest
from w2v2.data.corpora.label_table import open_table
from w2v2.errors import UserError
from w2v2.jobs import baseline, finetune, pretrain, tune_folds
from w2v2.storage import run_directory


@pytest.fixture(autouse=True)
def no_ray(monkeypatch: pytest.MonkeyPatch) -> None:
    def start() -> None:
        raise AssertionError("a plan started Ray")

    monkeypatch.setattr(connection, "start", start)


def speech(root: Path, num_speakers: int = 6) -> Path:
    """A CSV of clips of 0.5 s, an empty file, a missing one and a row without a label, all in wav."""
    rng, rows = np.random.default_rng(0), []
    for speaker in range(num_speakers):
        for label in ("sad", "happy"):
            name = f"{speaker}_{label}.wav"
            root.mkdir(exist_ok=True)
            soundfile.write(root / name, 0.1 * rng.standard_normal(8000), 16_000)
            rows.append({"uri": name, "label": label, "speaker": f"s{speaker}"})
    rows.append({"uri": "gone.wav", "label": "sad", "speaker": "s1"})
    shutil.copy(root / "0_sad.wav", root / "no_label.wav")
    rows.append({"uri": "no_label.wav", "label": "", "speaker": "s1"})
    write_csv(root / "clips.csv", rows)
    return root / "clips.csv"


def plan_of(main: Callable[[Any], Any], kind: type, tmp_path: Path, uri: Path, *words: str) -> dict[str, Any]:
    flags = ["--plan", "true", "--run", str(tmp_path / "run"), "--cache.uri", str(tmp_path / "cache")]
    flags += ["--data.uri", str(uri), "--data.max_reject_fraction", "0.5", *words]
    return main(command_line.parse(kind, flags))


GROUPED = ("--folds.kind", "grouped", "--folds.num_folds", "3")


def test_the_plan_of_a_search(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO)
    plan = plan_of(
        tune_folds.main,
        TuneFoldsConfig,
        tmp_path,
        speech(tmp_path / "d"),
        *GROUPED,
        "--search.num_trials",
        "4",
    )
    assert sorted(
        path.name for path in tmp_path.rglob("*") if "/d" not in str(path)[len(str(tmp_path)) :]
    ) == ["clips.csv", "run"]
    assert plan["clips"]["given"] == 14 and plan["clips"]["used"] == 12
    assert plan["clips"]["rejected"] == {"label is empty": 1, "missing": 1}
    assert plan["audio_hours"] == pytest.approx(12 * 0.5 / 3600)
    # 3 folds, each trains on 8 clips: one step an epoch at batches of 8.
    assert plan["num_steps"] == 4 * 3 * 10 and plan["num_folds_done"] == 0
    assert (plan["num_cached"], plan["num_to_compute"]) == (0, 12)
    # Waveforms are what encoder.train=all keeps: 8,000 samples of 4 bytes and the file around them.
    assert plan["cache_bytes"] == pytest.approx(12 * (4 * 8000 + 132))
    for words in (
        "clips: 14 given = 12 used + 2", "plan: rejected, missing: gone.wav", "6 speakers; classes: sad (6), happy (6)",
        "4 trials x 3 folds x 10 epochs", f"would write in {tmp_path}/run: config.yaml", "study.db", "asha stops bad trials",
        f"--data.uri {tmp_path}/run/clips.csv --data.layout csv", "--folds.kind column --data.split_column fold",
    ):  # fmt: skip
        assert words in caplog.text, words
    table = open_table(plan["csv"], shown_as="")
    assert (
        list(table.header) == ["clip_id", "uri", "label", "speaker", "fold"] and len(list(table.rows)) == 12
    )


def test_a_plan_of_what_would_stop_says_so_after_all_of_it(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)
    uri = speech(tmp_path / "d")
    with pytest.raises(
        UserError,
        match=r"^2 of 14 clips were rejected, more than the fraction data.max_reject_fraction=0.1: .*\); fix",
    ) as failure:
        plan_of(
            tune_folds.main, TuneFoldsConfig, tmp_path, uri, *GROUPED, "--data.max_reject_fraction", "0.1"
        )
    assert "rejects.parquet" not in str(failure.value)  # there is none
    assert "the clips as they were understood" in caplog.text and (tmp_path / "run" / "clips.csv").exists()
    config = command_line.parse(TuneFoldsConfig, ["--run", str(tmp_path / "run"), "--seed", "5"])
    corpus = manifest.read(tune_folds.resolved(config).data.__class__(uri=str(uri)))
    run_directory.open_or_continue(config)
    run_directory.keep_manifest(str(tmp_path / "run"), corpus.clips, corpus.rejects)
    with pytest.raises(UserError, match=r"holds a run with .*seed = 5, now it is 0"):
        plan_of(tune_folds.main, TuneFoldsConfig, tmp_path, uri, *GROUPED)


@pytest.mark.parametrize(
    ("maker", "words", "columns"),
    [
        (clinic_corpus, ("--task.kind", "multi_label", "--data.layout", "clinic"), ["tremor", "breathy", "monotone", "speaker", "split"]),
        (deam_corpus, ("--task.kind", "regression", "--data.layout", "deam"), ["valence", "arousal", "speaker", "split"]),
        (sentences_csv, ("--task.kind", "transcript"), ["text", "speaker", "split"]),
    ],
)  # fmt: skip
def test_plans_of_fine_tunings_are_read_back_to_the_same_plan(
    maker: Callable[[Path], Path],
    words: tuple[str, ...],
    columns: list[str],
    tmp_path: Path,
    caplog: pytest.LogCaptureFixture,
) -> None:
    caplog.set_level(logging.INFO)
    plan = plan_of(finetune.main, FinetuneConfig, tmp_path, maker(tmp_path / "data"), *words)
    table = open_table(plan["csv"], shown_as="")
    assert list(table.header) == ["clip_id", "uri", *columns]
    shown = shlex.split(re.findall(r"give it to the job by (.*)", caplog.text)[-1])
    first = Path(plan["csv"]).read_bytes()
    kept = shutil.copy(plan["csv"], tmp_path / "kept.csv")
    shown[shown.index("--data.uri") + 1] = str(kept)
    again = plan_of(finetune.main, FinetuneConfig, tmp_path, kept, *words, *shown)
    assert Path(again["csv"]).read_bytes() == first
    same = ("audio_hours", "splits", "num_steps")
    assert [again[name] for name in same] == [plan[name] for name in same] and again["clips"][
        "rejected"
    ] == {}


def test_a_plan_overwrites_no_csv_that_was_edited(tmp_path: Path) -> None:
    uri = speech(tmp_path / "d")
    first = Path(plan_of(tune_folds.main, TuneFoldsConfig, tmp_path, uri, *GROUPED)["csv"])
    assert Path(plan_of(tune_folds.main, TuneFoldsConfig, tmp_path, uri, *GROUPED)["csv"]) == first
    edited = first.read_text().replace("0_sad.wav", "0_sad_gone.wav")
    first.write_text(edited)
    for now in (uri, first):
        plan = plan_of(
            tune_folds.main, TuneFoldsConfig, tmp_path, now, *GROUPED, "--data.slice_columns", "[]"
        )
        assert Path(plan["csv"]) != first and first.read_text() == edited
    assert plan["clips"]["rejected"] == {"missing": 1}


def test_plans_of_a_baseline_and_a_pre_training(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO)
    uri = speech(tmp_path / "d")
    plan = plan_of(
        baseline.main,
        BaselineConfig,
        tmp_path,
        uri,
        *GROUPED,
        "--svm.c",
        "[1.0]",
        "--svm.num_inner_folds",
        "2",
    )
    assert plan["num_fits"] == 3 * (2 * 4 + 1) and plan["num_to_compute"] == 12
    words = ("--data.exclude_speakers", '["s0"]', "--data.slice_columns", "[device]")
    plan = plan_of(pretrain.main, PretrainConfig, tmp_path, uri, *words)
    assert plan["clips"]["passed_over"] == {"speakers to exclude": 2} and plan["clips"]["used"] == 11
    assert "would write in" in caplog.text and sorted(path.name for path in (tmp_path / "run").iterdir()) == [
        "clips-2.csv",
        "clips.csv",
    ]


def test_files_that_cannot_be_used_show_in_the_sample(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)
    uri = speech(tmp_path / "d")
    (tmp_path / "d" / "3_sad.wav").write_bytes(b"no audio")
    plan = plan_of(tune_folds.main, TuneFoldsConfig, tmp_path, uri, *GROUPED)
    assert (plan["num_sampled"], plan["num_sampled_bad"]) == (12, 1)
    assert "plan: would be rejected, 3_sad.wav (not audio" in caplog.text


@pytest.mark.slow
def test_a_job_on_the_csv_of_its_plan_ends_with_the_same_predictions(tmp_path: Path) -> None:
    flags = [
        "--run",
        str(tmp_path / "run"),
        "--cache.uri",
        str(tmp_path / "cache"),
        "--data.max_reject_fraction",
        "0.5",
        *GROUPED,
    ]
    flags += [
        "--svm.features",
        "[energy]",
        "--svm.c",
        "[1.0]",
        "--svm.num_inner_folds",
        "2",
        "--local",
        "true",
    ]
    data = ["--data.uri", str(speech(tmp_path / "d"))]
    baseline.main(command_line.parse(BaselineConfig, [*flags, *data]))
    plan = baseline.main(command_line.parse(BaselineConfig, [*flags, *data, "--plan", "true"]))
    assert (plan["num_cached"], plan["num_to_compute"], plan["cache_bytes"]) == (12, 0, 0.0)
    back = ["--data.uri", plan["csv"], "--data.layout", "csv", "--run", str(tmp_path / "again")]
    baseline.main(command_line.parse(BaselineConfig, [*flags, *back]))
    first, second = (
        run_directory.read_table(str(tmp_path / name), "predictions") for name in ("run", "again")
    )
    assert first.equals(second)


@pytest.mark.parametrize(
    ("main", "kind"),
    [(tune_folds.main, TuneFoldsConfig), (finetune.main, FinetuneConfig), (pretrain.main, PretrainConfig)],
)
def test_a_plan_warns_of_an_encoder_that_is_nowhere(
    main: Callable[[Any], Any], kind: type, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    split = GROUPED if kind is TuneFoldsConfig else ()
    plan_of(main, kind, tmp_path, speech(tmp_path / "data"), "--encoder.name", "nobody/nothing", *split)
    warnings = [record.getMessage() for record in caplog.records if record.levelno == logging.WARNING]
    assert [
        text
        for text in warnings
        if text.startswith("plan: encoder.name 'nobody/nothing': there is no such folder")
    ]
