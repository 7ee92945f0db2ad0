"""Settings have one digest and one comparison; a field that is added at its default changes neither."""

import dataclasses
import json
from dataclasses import dataclass, field, make_dataclass, replace

import pytest

from w2v2.config import digest
from w2v2.config.data import FIRST_AUDIO_FIELDS, AudioConfig, DataConfig
from w2v2.config.digest import changed, differences, first_and_changed, positional, settings_digest
from w2v2.config.model import FIRST_ENCODER_FIELDS, EncoderConfig
from w2v2.config.text import FIRST_TEXT_FIELDS, TextConfig
from w2v2.config.tune_folds import Dimension, SearchConfig, TuneFoldsConfig

AUDIO = AudioConfig(crop_s=3, resampler="librosa")


def extended(config, **more):
    """The same settings in a class that has further fields, each at its default."""
    added = [(name, type(value), field(default=value)) for name, value in more.items()]
    wider = make_dataclass("Wider", added, bases=(type(config),), frozen=True, kw_only=True)
    return wider(**{f.name: getattr(config, f.name) for f in dataclasses.fields(config)})


@pytest.mark.parametrize("audio", [AudioConfig(), AUDIO], ids=["defaults", "others"])
def test_an_added_field_changes_no_digest(audio):
    wider = extended(audio, dither_db=0.0, channels=("mean",))
    assert settings_digest("x", audio=wider, uri="gs://a") == settings_digest("x", audio=audio, uri="gs://a")
    assert positional(wider, FIRST_AUDIO_FIELDS) == positional(audio, FIRST_AUDIO_FIELDS)
    used = replace(wider, dither_db=3.0)
    assert settings_digest("x", audio=used, uri="gs://a") != settings_digest("x", audio=audio, uri="gs://a")
    assert positional(used, FIRST_AUDIO_FIELDS) is None, "nothing of before was computed so"


@pytest.mark.parametrize(
    ("config", "first"),
    [
        (EncoderConfig(layer="concat", layers=(0, 2)), FIRST_ENCODER_FIELDS),
        (TextConfig(case="lower"), FIRST_TEXT_FIELDS),
        (AUDIO, FIRST_AUDIO_FIELDS),
    ],
    ids=lambda value: type(value).__name__,
)
def test_an_added_field_changes_no_name_of_before(config, first):
    of_all_fields = json.dumps(dataclasses.asdict(config))
    assert json.dumps(first_and_changed(config, first)) == of_all_fields
    wider = extended(config, dither_db=0.0)
    assert json.dumps(first_and_changed(wider, first)) == of_all_fields
    assert first_and_changed(replace(wider, dither_db=3.0), first)["dither_db"] == 3.0


def test_the_digest_names_values_fields_and_purpose():
    digests = [
        settings_digest("x", audio=AudioConfig()),
        settings_digest("y", audio=AudioConfig()),
        settings_digest("x", sound=AudioConfig()),
        settings_digest("x", audio=AudioConfig(crop_s=3.0)),
        settings_digest("x", audio=AudioConfig(fixed_s=3.0)),
    ]
    assert len(set(digests)) == len(digests)
    assert settings_digest("x", audio=AudioConfig(crop_s=3)) == digests[3], "3 seconds are 3.0 seconds"


def test_a_digest_is_pinned():
    # Whoever changes this makes every cache and table of before be computed again.
    assert digest.VERSION == 1
    assert settings_digest("audio index", audio=AUDIO, uri="gs://bucket/a") == "dfadf651a67ad99d7aa47da7"


def test_defaults_of_digested_sections_are_those_of_this_version():
    assert json.loads(json.dumps(digest.plain(AudioConfig()))) == {
        "resampler": "soxr", "trim_db": 0.0, "crop_s": 0.0, "fixed_s": 0.0, "min_s": 0.1, "max_s": 60.0,
    }, "a default that changes raises digest.VERSION; a field that is added is added here"  # fmt: skip


def test_sections_nest_and_defaults_are_left_out():
    assert changed(TuneFoldsConfig()) == {}
    space = {"optim.learning_rate": Dimension(low=1e-4, high=1e-3, log=True)}
    config = TuneFoldsConfig(data=DataConfig(uri="x", classes={"a": "b"}), search=SearchConfig(space=space))
    assert changed(config) == {
        "data": {"uri": "x", "classes": {"a": "b"}},
        "search": {"space": {"optim.learning_rate": {"low": 1e-4, "high": 1e-3, "log": True, "choices": []}}},
    }


def test_a_field_without_default_is_always_named():
    @dataclass(frozen=True, kw_only=True)
    class Wanted:
        name: str

    assert changed(Wanted(name="")) == {"name": ""}


def test_differences_say_path_and_both_values():
    before = TuneFoldsConfig()
    now = replace(before, seed=3, data=replace(before.data, num_readers=2, classes={"a": "b"}))
    assert differences(before, now) == {
        "seed": (0, 3),
        "data.classes": ({}, {"a": "b"}),
        "data.num_readers": (16, 2),
    }
    assert differences(before, now, besides=["seed", "data"]) == {}
