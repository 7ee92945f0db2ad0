"""The card of a saved model, read back by the hub's own library: results with intervals, limits, a use that runs."""

import ast
import re
from dataclasses import replace

import numpy as np
import pytest
import soundfile
from huggingface_hub import ModelCard

from tests.models.test_saved_model import CLIPS, make
from w2v2.inference.prediction import predict_waveforms
from w2v2.models.model_card import card_text, extend_card
from w2v2.models.model_info import read_info
from w2v2.models.saved_model import load_model, save_model

POOLED = {
    "uar": 0.512,
    "accuracy": 0.6,
    "macro_f1": None,
    "never_predicted": ["calm"],
    "absent": [],
    "intervals": {"uar": [0.4, 0.62], "accuracy": None, "undefined": {"accuracy": "3 speakers"}},
}
ESTIMATE = {
    "name": "BBC-CV",
    "how": "Bootstrap bias corrected cross-validation over 6 folds and 5 complete trials.",
    "interval": "95 %: Student's t times the standard error over speakers or over folds, whichever is wider.",
    "metrics": {
        "uar": {"value": 0.48, "low": 0.41, "high": 0.55, "undefined": ""},
        "accuracy": {"value": None, "low": None, "high": None, "undefined": "no clip defines the score"},
    },
}
CARD = {
    "data": {"num_clips": 70, "num_speakers": 9},
    "corpus": "RAVDESS speech",
    "computed_on": "the test split, once: 20 clips of 3 speakers.",
    "pooled": POOLED,
    "estimate": ESTIMATE,
    "settings": {"data": {"uri": "/home/ann/corpus", "layout": "clinic"}},
}


def text(card=CARD, **settings) -> str:
    _, info = make(**settings)
    return card_text(info, card, "abc", opened_by="AutoModelForAudioClassification")


def test_the_hub_reads_the_results_with_their_intervals():
    data = ModelCard(text()).data
    assert data.library_name == "transformers" and data.pipeline_tag == "audio-classification"
    by_name = {(r.metric_name, r.dataset_split): r for r in data.eval_results}
    # What is undefined is no result.
    assert set(by_name) == {("UAR", "test"), ("accuracy", "test"), ("UAR, BBC-CV", "cross-validation")}
    test_score, tuned = by_name["UAR", "test"], by_name["UAR, BBC-CV", "cross-validation"]
    assert (test_score.metric_type, test_score.metric_value) == ("recall", 0.512)
    assert test_score.metric_args == {"average": "macro", "interval_95": [0.4, 0.62]}
    assert tuned.metric_value == 0.48 and tuned.metric_args["interval_95"] == [0.41, 0.55]
    assert (test_score.dataset_name, test_score.dataset_type) == ("RAVDESS speech", "ravdess-speech")
    assert by_name["accuracy", "test"].metric_args is None
    # The estimate to believe comes first.
    assert data.eval_results[0].metric_name == "UAR, BBC-CV"
    assert data.metrics == ["accuracy", "recall"]


def test_the_text_has_scores_method_and_limits_and_no_home():
    card = text()
    for line in (
        "| UAR | 0.512 | 0.400 to 0.620 | this model, test split |",
        "| accuracy | 0.600 | undefined (3 speakers) | this model, test split |",
        "| UAR | 0.480 | 0.410 to 0.550 | these settings, BBC-CV |",
        "Bootstrap bias corrected cross-validation over 6 folds and 5 complete trials.",
        "Never predicted in the test split: calm.",
        "no medical device",
        "70 clips of 9 speakers of RAVDESS speech",
    ):
        assert line in card, line
    assert "/home/ann" not in card and "~/corpus" in card
    assert card.index("these settings, BBC-CV") < card.index("this model, test split")


@pytest.mark.parametrize(
    ("name", "base"),
    [("facebook/wav2vec2-base", "facebook/wav2vec2-base"), ("/data/encoder", None), ("tiny", None)],
)
def test_an_encoder_of_the_hub_is_named_as_the_base(name, base):
    _, info = make()
    info = replace(info, encoder=replace(info.encoder, name=name))
    assert ModelCard(card_text(info, {}, "abc", opened_by="")).data.base_model == base


@pytest.mark.parametrize(
    ("kind", "groups", "pooled", "expected"),
    [
        (
            "multi_label",
            (("a", "b"),),
            {"macro_auc": 0.7, "weighted_auc": None},
            {"macro AUC": ("roc_auc", 0.7)},
        ),
        (
            "regression",
            (("v",), ("w",)),
            {"mean": {"ccc": 0.3, "pearson": 0.4, "r2": -0.1, "rmse": 2.0}},
            {"mean CCC": ("ccc", 0.3), "mean RMSE": ("mse", 2.0)},
        ),
    ],
)
def test_other_tasks_have_their_own_metrics(kind, groups, pooled, expected):
    card = {"pooled": pooled | {"intervals": {}}}
    results = {
        r.metric_name: (r.metric_type, r.metric_value)
        for r in ModelCard(text(card, kind=kind, groups=groups)).data.eval_results
    }
    assert expected.items() <= results.items()


@pytest.mark.parametrize("settings", [dict(), dict(widths=(7,))], ids=["transformers", "w2v2"])
def test_the_code_of_the_card_gives_the_outputs(settings, tmp_path, capsys):
    model, info = make(**settings)
    folder, recording = tmp_path / "model", tmp_path / "recording.wav"
    save_model(str(folder), model, info, card={}, made_from=CLIPS)
    extend_card(str(folder), CARD)
    waveform = np.random.default_rng(0).normal(0, 0.1, 8000).astype(np.float32)
    soundfile.write(recording, waveform, 16000, subtype="FLOAT")
    (code,) = re.findall(r"```python\n(.*?)```", (folder / "README.md").read_text(), re.DOTALL)
    exec(code.replace("path/to/this/folder", str(folder)).replace("recording.wav", str(recording)), {})
    printed = capsys.readouterr().out
    ours = predict_waveforms([waveform], load_model(str(folder)))[0]
    scores = ast.literal_eval(printed)
    if isinstance(scores, list):
        scores = {one["label"]: one["score"] for one in scores}
    assert [scores[name] for name in info.names] == pytest.approx(ours.tolist(), abs=1e-5)


def test_a_folder_is_ready_for_the_hub(tmp_path):
    """What `hf upload` sends: a card that the hub's library reads, no pickles, and no place on this machine."""
    places = {
        "data": {"uri": "/data/ann/corpus"},
        "run": "/mnt/runs/a",
        "cache": {"uri": str(tmp_path / "cache")},
    }
    card = CARD | {
        "settings": places,
        "computed_on": f"the test split; but 3 clips chose the settings in {tmp_path}/search",
    }
    model, info = make(name="/srv/encoders/base")
    folder = tmp_path / "model"
    save_model(str(folder), model, info, card=card, made_from=CLIPS)
    extend_card(str(folder), {"ensemble": {"of": str(tmp_path)}, "pooled": POOLED})
    files = sorted(folder.iterdir())
    assert {path.suffix for path in files} == {".json", ".md", ".parquet", ".safetensors"}
    for path in files:
        body = path.read_bytes()
        for place in (b"/data/ann", b"/mnt/runs", b"/srv/", str(tmp_path).encode()):
            assert place not in body, path.name
    read = ModelCard.load(folder / "README.md")
    assert read.data.library_name == "transformers" and "w2v2" in read.data.tags
    assert read.text.strip().startswith("# .../base for calm, angry, sad")
    again = ModelCard(f"---\n{read.data.to_yaml()}\n---\n{read.text}")
    assert again.data.to_dict() == read.data.to_dict() and again.data.eval_results
    assert read_info(str(folder))[0].encoder.name == ".../base"
    assert load_model(str(folder)).info.names == info.names
