"""`w2v2 export`: onnxruntime gives what transformers and predict give, whatever a clip's length; what differs is not kept."""

import json
from dataclasses import replace
from pathlib import Path

import jaxtyping
import numpy as np
import pytest
import torch
from transformers import AutoModelForAudioClassification, AutoModelForCTC

from tests.models import test_saved_model as models
from tests.models import test_squeezed as squeezed
from w2v2.audio.waveforms import normalized
from w2v2.command import main as command
from w2v2.config.data import AudioConfig
from w2v2.config.export import ExportConfig
from w2v2.config.model import HeadConfig
from w2v2.config.text import TextConfig
from w2v2.data.text import Vocabulary
from w2v2.errors import UserError
from w2v2.inference import onnx_graph
from w2v2.inference.prediction import predict_waveforms
from w2v2.jobs import export
from w2v2.models.classifier import Classifier
from w2v2.models.ctc import Transcriber
from w2v2.models.ensemble import member_name, save_ensemble
from w2v2.models.model_card import extend_card
from w2v2.models.model_info import ModelInfo
from w2v2.models.saved_model import load_model, save_model

onnx = pytest.importorskip("onnx")
onnxruntime = pytest.importorskip("onnxruntime")

LENGTHS = (90, 1607, 16_000, 40_001)


@pytest.fixture(autouse=True)
def symbols_may_be_shapes(monkeypatch: pytest.MonkeyPatch) -> None:
    """While torch makes a graph, lengths are symbols, which are no integers: the checks of annotations are off."""
    monkeypatch.setattr(jaxtyping.config, "jaxtyping_disable", True)


def clips() -> list[np.ndarray]:
    rng = np.random.default_rng(8)
    return [rng.normal(0.02, 0.2, size=length).astype(np.float32) for length in LENGTHS]


def saved(folder: Path, family: str = "wav2vec2-group", **settings) -> Path:
    model, info = models.make(family, **settings)
    save_model(str(folder), model, info, card=models.CARD, made_from=models.CLIPS)
    return folder


def exported(folder: Path, run: Path) -> tuple[onnxruntime.InferenceSession, dict]:
    metrics = export.main(ExportConfig(model=str(folder), run=str(run)))
    assert metrics["largest_difference"] <= 1e-4 and len(metrics["lengths_s"]) == 5
    about = json.loads((run / "model.json").read_text())
    graph = onnx.load(run / "model.onnx")
    onnx.checker.check_model(graph)
    kept = {entry.key: entry.value for entry in graph.metadata_props}
    assert json.loads(kept["w2v2"]) == {name: value for name, value in about.items() if name != "check"}
    return onnxruntime.InferenceSession(run / "model.onnx"), about


def test_a_classifier_gives_the_outputs_of_transformers_and_predict(tmp_path: Path) -> None:
    folder = saved(tmp_path / "model")
    extend_card(str(folder), {"temperature": {"value": 1.5}})
    session, about = exported(folder, tmp_path / "run")
    stock, ours = AutoModelForAudioClassification.from_pretrained(folder).eval(), load_model(str(folder))
    for clip in clips():
        logits, probabilities = session.run(["logits", "probabilities"], {"waveform": clip[None]})
        with torch.no_grad():
            theirs = stock(torch.from_numpy(normalized(clip))[None]).logits.numpy()
        np.testing.assert_allclose(logits, theirs, atol=1e-4)
        np.testing.assert_allclose(probabilities, predict_waveforms([clip], ours), atol=1e-4)
    assert (
        about["input"]["sampling_rate_hz"] == 16_000
        and about["operating_point"]["temperature"]["value"] == 1.5
    )
    assert about["outputs"][0]["labels"] == list(models.CLASSES)
    assert about["preprocessing"]["in_graph"] == "zero mean and unit variance over the samples"
    assert about["preprocessing"]["before_graph"]["trim_db"] == 30.0


@pytest.mark.slow
def test_transcripts_have_the_log_probabilities_of_transformers(tmp_path: Path) -> None:
    encoder = models.make(pooling="none")[0].encoder
    model = Transcriber(encoder, HeadConfig(), num_outputs=4).eval()
    vocabulary = Vocabulary(tokens=("<pad>", "|", "a", "b"), blank=0, word_delimiter="|")
    info = ModelInfo(
        kind="transcript", groups=(vocabulary.tokens,), audio=AudioConfig(), encoder=encoder.config, head=HeadConfig(),
        normalize=True, text=TextConfig(), vocabulary=vocabulary,
    )  # fmt: skip
    save_model(str(tmp_path / "model"), model, info, card=models.CARD, made_from=models.CLIPS)
    session, about = exported(tmp_path / "model", tmp_path / "run")
    stock = AutoModelForCTC.from_pretrained(tmp_path / "model").eval()
    for clip in clips():
        (outputs,) = session.run(None, {"waveform": clip[None]})
        with torch.no_grad():
            theirs = stock(torch.from_numpy(normalized(clip))[None]).logits.log_softmax(-1).numpy()
        np.testing.assert_allclose(outputs, theirs, atol=1e-4)
    assert about["decoding"]["blank"] == 0 and about["outputs"][0]["labels"] == ["<pad>", "|", "a", "b"]


def test_a_graph_that_differs_is_not_kept_nor_is_an_earlier_one(tmp_path: Path, monkeypatch) -> None:
    folder, run = saved(tmp_path / "model", layer="mix", pooling="attentive_statistics"), tmp_path / "run"
    run.mkdir()
    (run / "model.onnx").write_bytes(b"of another model")
    honest = onnx_graph.outputs_of
    monkeypatch.setattr(
        onnx_graph,
        "outputs_of",
        lambda *args: [{name: value + 3e-4 for name, value in one.items()} for one in honest(*args)],
    )
    with pytest.raises(
        UserError, match=r"outputs of the exported graph differ from the model's by up to 0\.0003"
    ):
        export.main(ExportConfig(model=str(folder), run=str(run)))
    assert not {"model.onnx", "model.json", "metrics.json"} & {path.name for path in run.iterdir()}


def test_what_cannot_be_exported_is_one_sentence(tmp_path: Path, monkeypatch, capsys) -> None:
    joined = saved(tmp_path / "joined", num_descriptors=3)
    assert command(["export", "--model", str(joined), "--run", str(tmp_path / "run")]) == 2
    assert "joins hand-made features (energy), which no graph computes" in capsys.readouterr().err
    assert not (tmp_path / "run" / "model.onnx").exists()
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    with pytest.raises(
        UserError, match=r"export needs onnx, onnxscript, onnxruntime: pip install -e '\.\[export\]'"
    ):
        export.main(ExportConfig(model=str(joined), run=str(tmp_path / "run")))


@pytest.mark.slow
@pytest.mark.parametrize(
    "settings",
    [
        dict(family="wav2vec2-layer", kind="multi_label", groups=(("a", "b"), ("c",)), widths=(4,)),
        dict(family="hubert", kind="regression", groups=(("v",), ("w",)), pooling="mean+std"),
        dict(family="wavlm", layer=1, pooling="max"),
        dict(family="data2vec", layer="concat", layers=(0, 2), pooling="attention"),
    ],
    ids=str,
)
def test_other_families_tasks_and_poolings(settings: dict, tmp_path: Path) -> None:
    folder = saved(tmp_path / "model", **settings)
    session, about = exported(folder, tmp_path / "run")
    ours = load_model(str(folder))
    for clip in clips():
        (outputs,) = session.run([about["outputs"][-1]["name"]], {"waveform": clip[None]})
        np.testing.assert_allclose(outputs, predict_waveforms([clip], ours), atol=1e-4)


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["group", "three-to-one", "d"])
@pytest.mark.parametrize("layer", ["last", "mix"])
def test_squeezed_encoders(kind: str, layer: str, tmp_path: Path) -> None:
    encoder = squeezed.make_encoder(kind, layer=layer)
    model = Classifier(encoder, HeadConfig(), groups=[3]).eval()
    info = ModelInfo(
        kind="classes", groups=(models.CLASSES,), audio=AudioConfig(), encoder=encoder.config, head=HeadConfig(),
        normalize=True,
    )  # fmt: skip
    save_model(str(tmp_path / "model"), model, info, card=models.CARD, made_from=models.CLIPS)
    session, _ = exported(tmp_path / "model", tmp_path / "run")
    for clip in clips():
        logits = session.run(["logits"], {"waveform": clip[None]})[0]
        np.testing.assert_allclose(logits, models.outputs(model, [clip]), atol=1e-4)


@pytest.mark.slow
def test_an_ensemble_is_one_graph_of_the_averaged_probabilities(tmp_path: Path) -> None:
    folder = tmp_path / "model"
    for number in range(2):
        model, info = models.make(widths=(5 + number,))
        info = replace(info, head=HeadConfig(widths=(5 + number,)))
        save_model(str(folder / member_name(number)), model, info, card=models.CARD, made_from=models.CLIPS)
    save_ensemble(str(folder), num_members=2, card=models.CARD, made_from=models.CLIPS)
    session, about = exported(folder, tmp_path / "run")
    assert [output["name"] for output in about["outputs"]] == ["probabilities"]
    for clip in clips():
        (outputs,) = session.run(None, {"waveform": clip[None]})
        np.testing.assert_allclose(outputs, predict_waveforms([clip], load_model(str(folder))), atol=1e-4)
