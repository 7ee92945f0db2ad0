"""A run directory is claimed by one set of settings and one set of clips; its files come back as written."""

import json
import math
import random
import shutil
from dataclasses import fields, replace

import pyarrow as pa
import pytest
import yaml

from w2v2.config.baseline import BaselineConfig
from w2v2.config.command_line import field_paths
from w2v2.config.finetune import FinetuneConfig
from w2v2.config.model import CheckpointConfig, OptimConfig, TrainingConfig
from w2v2.config.resources import TrainingResources
from w2v2.config.tune_folds import SearchConfig, TuneFoldsConfig
from w2v2.data.manifest import CLIPS, REJECTS, Manifest
from w2v2.errors import UserError
from w2v2.storage import run_directory


@pytest.fixture
def config(tmp_path):
    return TuneFoldsConfig(run=str(tmp_path / "run"))


def settings_of(config):
    return yaml.safe_load(run_directory.storage.read_text(f"{config.run}/config.yaml"))


def manifest(*changes, num_clips=3):
    """Clips of two speakers in two folds; changes are (row, column, value)."""
    rows = [
        {
            "clip_id": f"{i}.wav",
            "uri": f"/data/{i}.wav",
            "start_s": 0.0,
            "end_s": math.inf,
            "speaker": f"s{i % 2}",
        }
        | {"split": "", "label": "ab"[i % 2]}
        for i in range(num_clips)
    ]
    clips = pa.Table.from_pylist(rows, schema=CLIPS)
    for name, values in {
        "fold": [i % 2 for i in range(num_clips)],
        "audio_digest": [f"d{i}" for i in range(num_clips)],
    }.items():
        clips = clips.append_column(name, pa.array(values))
    for row, column, value in changes:
        values = clips[column].to_pylist()
        values[row] = value
        clips = clips.set_column(clips.column_names.index(column), column, pa.array(values))
    rejects = pa.Table.from_pylist([{"clip_id": "x", "uri": "/x", "reason": "not audio: x"}], schema=REJECTS)
    return Manifest(clips=clips, rejects=rejects)


def begin(config):
    """Claim the directory and keep clips in it, as a run does before it computes."""
    continued = run_directory.open_or_continue(config)
    run_directory.keep_manifest(config.run, manifest().clips, manifest().rejects)
    return continued


def test_a_new_directory_is_claimed_and_then_continued(config):
    assert begin(config) is False
    assert run_directory.open_or_continue(config) is True


def test_settings_may_change_until_something_is_computed(config):
    assert run_directory.open_or_continue(config) is False
    mended = replace(config, optim=OptimConfig(weight_decay=0.25))
    assert run_directory.open_or_continue(mended) is False
    assert settings_of(mended)["optim"]["weight_decay"] == 0.25


def test_config_yaml_holds_every_setting(config):
    run_directory.open_or_continue(config)
    tree = settings_of(config)
    assert tree["run"] == config.run and tree["optim"]["learning_rate"] == config.optim.learning_rate
    assert set(tree) == {field.name for field in fields(TuneFoldsConfig)}


def test_other_settings_are_refused_with_both_values_and_the_ways_out(config):
    begin(config)
    other = replace(config, optim=OptimConfig(weight_decay=0.25))
    message = (
        rf"{config.run} holds a run with optim\.weight_decay = 0\.01, now it is 0\.25: give this run a directory of "
        rf"its own with --run, or the settings of the old one with --config {config.run}/config\.yaml"
    )
    with pytest.raises(UserError, match=message):
        run_directory.open_or_continue(other)
    # What was there is left as it was.
    assert run_directory.open_or_continue(config) is True


@pytest.mark.parametrize("before", [{}, {"calm": "neutral"}])
def test_a_setting_that_is_a_mapping_is_compared_whole(config, before):
    with_before = replace(config, data=replace(config.data, classes=before))
    begin(with_before)
    assert run_directory.open_or_continue(with_before) is True
    with pytest.raises(UserError, match=r"data\.classes"):
        run_directory.open_or_continue(replace(config, data=replace(config.data, classes={"calm": "drop"})))


def test_settings_that_change_no_score_may_change_and_are_kept(config):
    begin(config)
    more = replace(
        config,
        search=SearchConfig(num_trials=50, max_concurrent_trials=3),
        resources=TrainingResources(cpus_per_worker=2.0),
        data=replace(config.data, num_readers=3, max_reject_fraction=0.5),
        cache=replace(config.cache, uri="/elsewhere"),
    )
    assert run_directory.open_or_continue(more) is True
    assert settings_of(config)["search"]["num_trials"] == 50


@pytest.mark.parametrize("config_class", [TuneFoldsConfig, FinetuneConfig, BaselineConfig])
def test_every_setting_that_may_change_exists(config_class):
    assert set(config_class.RESUMABLE) <= set(field_paths(config_class))


def test_a_finetuning_may_continue_with_other_resources_and_checkpoints(tmp_path):
    config = FinetuneConfig(run=str(tmp_path))
    begin(config)
    checkpoint = CheckpointConfig(every_steps=7, keep=5)
    other = replace(
        config, resources=TrainingResources(cpus_per_worker=3.0, gpus_per_worker=0.5), checkpoint=checkpoint
    )
    assert run_directory.open_or_continue(other) is True
    with pytest.raises(UserError, match="workers = 1, now it is 2"):
        run_directory.open_or_continue(replace(config, resources=TrainingResources(num_workers=2)))


def test_all_that_differs_is_named(config):
    begin(config)
    other = replace(config, seed=4, optim=OptimConfig(weight_decay=0.25, beta1=0.5))
    with pytest.raises(
        UserError, match=r"with seed = 0, now it is 4; optim\.weight_decay = 0\.01, .*; optim\.beta1 = 0\.9, "
    ):
        run_directory.open_or_continue(other)


def test_a_run_begun_before_a_setting_existed_is_continued(config, tmp_path):
    begin(config)
    for section, field in (
        ("training", "sampling"),
        ("resources", "precision"),
    ):  # as if they had been added since
        path = tmp_path / "run" / "config.yaml"
        tree = settings_of(config)
        del tree[section][field]
        path.write_text(yaml.safe_dump(tree))
        run_directory.keep_manifest(config.run, manifest().clips, manifest().rejects)
    assert run_directory.open_or_continue(config) is True
    with pytest.raises(UserError, match=r"training\.sampling = 'all', now it is 'balanced'"):
        run_directory.open_or_continue(replace(config, training=TrainingConfig(sampling="balanced")))


def test_a_run_of_a_version_with_other_settings_is_refused(config, tmp_path):
    begin(config)
    path = tmp_path / "run" / "config.yaml"
    path.write_text(path.read_text() + "oddity: 3\n")
    run_directory.keep_manifest(config.run, manifest().clips, manifest().rejects)
    with pytest.raises(
        UserError, match=r"another job or version, .* this job does not have \(there is no field oddity"
    ):
        run_directory.open_or_continue(config)


def test_a_directory_that_was_copied_or_moved_is_continued(config, tmp_path):
    begin(config)
    shutil.copytree(tmp_path / "run", tmp_path / "copy")
    copied = replace(config, run=str(tmp_path / "copy"))
    assert run_directory.open_or_continue(copied) is True
    assert settings_of(copied)["run"] == copied.run
    with pytest.raises(UserError, match="seed"):
        run_directory.open_or_continue(replace(copied, seed=1))


def test_flipped_bits_are_noticed_and_what_is_whole_decides(config, tmp_path, caplog):
    begin(config)
    settings, clips = tmp_path / "run" / "config.yaml", tmp_path / "run" / "manifest.parquet"
    text, body = settings.read_text(), clips.read_bytes()
    for damaged in (text.replace("seed: 0", "seed: 1"), "run: [", "", "\0"):
        settings.write_text(damaged)
        assert run_directory.open_or_continue(config) is True
        assert settings.read_text() == text
    clips.write_bytes(body[:100] + bytes([body[100] ^ 8]) + body[101:])
    assert run_directory.open_or_continue(config) is True
    assert "manifest.parquet: damaged" in caplog.text and "it is written again" in caplog.text
    run_directory.keep_manifest(config.run, manifest().clips, manifest().rejects)
    assert clips.read_bytes() == body


def test_a_manifest_of_an_earlier_version_has_its_settings_in_config_yaml(config, tmp_path):
    begin(config)
    run_directory.write_table(config.run, "manifest", manifest().clips)
    assert run_directory.open_or_continue(config) is True
    with pytest.raises(UserError, match="seed"):
        run_directory.open_or_continue(replace(config, seed=1))


def test_manifest_and_rejects_come_back_as_written(config):
    corpus = manifest()
    run_directory.keep_manifest(config.run, corpus.clips, corpus.rejects)
    assert run_directory.read_table(config.run, "manifest").equals(corpus.clips)
    assert run_directory.read_table(config.run, "rejects").equals(corpus.rejects)


def test_the_same_clips_in_another_order_continue_the_run(config):
    corpus = manifest()
    run_directory.keep_manifest(config.run, corpus.clips, corpus.rejects)
    turned = Manifest(clips=corpus.clips.take([2, 0, 1]), rejects=corpus.rejects.slice(0, 0))
    run_directory.keep_manifest(config.run, turned.clips, turned.rejects)
    assert run_directory.read_table(config.run, "manifest")["clip_id"].to_pylist() == [
        "2.wav",
        "0.wav",
        "1.wav",
    ]
    assert run_directory.read_table(config.run, "rejects").num_rows == 0


@pytest.mark.parametrize(
    "change", [("label", "b"), ("speaker", "s7"), ("fold", 1), ("audio_digest", "other")]
)
def test_a_clip_that_is_another_than_before_is_refused(config, change):
    run_directory.keep_manifest(config.run, manifest().clips, manifest().rejects)
    message = (
        rf"the data of {config.run} has changed since the run began: 1 clip added or changed, 1 removed or "
        r"changed \(such as 0\.wav\); earlier and later scores would not be of the same clips, so give this run a "
        r"directory of its own with --run"
    )
    with pytest.raises(UserError, match=message):
        run_directory.keep_manifest(config.run, manifest((0, *change)).clips, manifest((0, *change)).rejects)
    assert run_directory.read_table(config.run, "manifest").equals(manifest().clips)


@pytest.mark.parametrize(
    ("num_before", "num_now", "message"),
    [(3, 5, "2 clips added or changed, 0 removed"), (5, 3, "0 clips added or changed, 2")],
)
def test_clips_that_came_or_went_are_refused(config, num_before, num_now, message):
    run_directory.keep_manifest(
        config.run, manifest(num_clips=num_before).clips, manifest(num_clips=num_before).rejects
    )
    with pytest.raises(UserError, match=message + r".*such as 3\.wav"):
        run_directory.keep_manifest(
            config.run, manifest(num_clips=num_now).clips, manifest(num_clips=num_now).rejects
        )


def test_tables_and_json_come_back_from_a_bucket(bucket):
    table = pa.table({"x": [1, None, 3]})
    run_directory.write_table("gs://speech/run", "curves", table)
    run_directory.write_json("gs://speech/run", "metrics", {"uar": 0.5, "names": ["\u00e9"]})
    assert run_directory.read_table("gs://speech/run", "curves").equals(table)
    assert json.loads(run_directory.storage.read_text("gs://speech/run/metrics.json")) == {
        "uar": 0.5,
        "names": ["\u00e9"],
    }


def test_a_number_that_json_does_not_have_is_our_own_mistake(tmp_path):
    with pytest.raises(ValueError, match="not JSON compliant"):
        run_directory.write_json(str(tmp_path), "metrics", {"uar": math.nan})
    assert not (tmp_path / "metrics.json").exists()


def test_metrics_are_sealed(tmp_path):
    metrics = {"uar": 0.1 + 0.2, "by_class": {"é": None, "b": [1, 2]}, "note": "token=secret1"}
    run_directory.write_metrics(str(tmp_path), metrics)
    wanted = metrics | {"note": "token=***", "warnings": []}
    assert run_directory.read_metrics(str(tmp_path)) == wanted
    file = tmp_path / "metrics.json"
    body = file.read_bytes()
    for bit in random.Random(0).sample(range(8 * len(body)), 200):
        changed = bytearray(body)
        changed[bit // 8] ^= 1 << bit % 8
        file.write_bytes(changed)
        try:
            read = run_directory.read_metrics(str(tmp_path))
            assert {name: read.get(name) for name in wanted} == wanted, (
                bit
            )  # white space, or the seal's own name
        except run_directory.storage.DamagedError as error:
            assert "damaged" in str(error)
    file.write_text('{"uar": 0.5}')  # of an earlier version
    assert run_directory.read_metrics(str(tmp_path)) == {"uar": 0.5}


@pytest.mark.parametrize("text", ["[1]", "a: 'b", "", "a: b: c"])
def test_settings_that_are_no_yaml_are_damaged(tmp_path, text):
    (tmp_path / "config.yaml").write_text(text)
    refused = pytest.raises(UserError, match=r"config.yaml: damaged: .*; copy the run directory")
    with refused, run_directory.finished_run(str(tmp_path)):
        run_directory.read_settings(str(tmp_path))


def test_texts_are_redacted_but_for_digests() -> None:
    secret = "https://me:pw@host/a.wav"
    table = pa.table({"uri": [secret, "a.wav"], "inputs": ["token=0f", "1e"], "size_bytes": [1, 2]})
    redacted = run_directory.without_secrets(table, besides=("inputs",))
    assert redacted["uri"].to_pylist() == ["https://***@host/a.wav", "a.wav"]
    assert redacted.drop_columns("uri").equals(table.drop_columns("uri"))
    assert run_directory.without_secrets(table)["inputs"].to_pylist() == ["token=***", "1e"]
