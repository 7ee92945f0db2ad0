"""jobs/finetune.py, evaluate.py and predict.py on transcripts, whole."""

import csv
import json
import re
from dataclasses import replace
from pathlib import Path

import duckdb
import jiwer
import pytest
import torch
from transformers import (
    Wav2Vec2CTCTokenizer,
    Wav2Vec2FeatureExtractor,
    Wav2Vec2ForCTC,
    Wav2Vec2Processor,
    pipeline,
)

from tests import ROOT
from tests.made.arpa import write_arpa
from tests.made.corpora import sentences_csv
from tests.made.run_tables import frame
from w2v2.audio.decoding import load_waveform
from w2v2.audio.synthesis import WORDS
from w2v2.config import command_line
from w2v2.config.data import AudioConfig
from w2v2.config.decode import DecodeConfig
from w2v2.config.finetune import EvaluateConfig, FinetuneConfig, PredictConfig
from w2v2.config.text import TextConfig
from w2v2.errors import UserError
from w2v2.jobs import evaluate, finetune, predict
from w2v2.models.pretrained import tiny_config


@pytest.fixture(scope="module")
def trained(tmp_path_factory, ray_session):
    """A finished run: its config, run directory and metrics; the text has upper case and a full stop."""
    folder = tmp_path_factory.mktemp("transcripts")
    uri = sentences_csv(folder / "data", num_speakers=8, num_sentences=3)
    rows = list(csv.DictReader(uri.open(newline="")))
    rows[0]["text"] = " ".join(["kids"] * 80)  # far more characters than a second has frames
    rows[1]["text"] = "..."
    with uri.open("w", newline="") as file:
        writer = csv.DictWriter(file, list(rows[0]))
        writer.writeheader()
        writer.writerows(row | {"text": row["text"].upper() + "."} for row in rows)
    flags = ["--task.kind", "transcript", "--data.uri", str(uri), "--run", str(folder / "run")]
    flags += ["--cache.uri", str(folder / "cache"), "--data.max_reject_fraction", "0.1"]
    flags += ["--text.case", "lower", "--text.drop_chars", ".", "--training.num_epochs", "2"]
    config = command_line.parse(FinetuneConfig, flags)
    return config, folder / "run", finetune.main(config)


def test_the_run_directory_has_scores_characters_and_rejects(trained):
    _, run, metrics = trained
    rejects = frame(run, "rejects").set_index("clip_id")["reason"]
    assert rejects["000.wav"].startswith("too short for its transcript: ")
    assert rejects["001.wav"] == "no text: '....' is empty once normalised"
    clips = frame(run, "manifest")
    assert clips.groupby("speaker")["split"].nunique().max() == 1
    assert all(row["reference"] == row["text"].lower().strip(".") for _, row in clips.iterrows())
    vocabulary = json.loads((run / "vocab.json").read_text())
    train = clips[clips["split"] == "train"]["reference"]
    assert set(vocabulary) == {"<pad>", "|", *set("".join(train)) - {" "}} == set(metrics["names"])
    characters = frame(run, "text").set_index("character")
    assert characters.loc["d", "num_train"] == "".join(train).count("d")
    rows = frame(run, "predictions")
    test = rows[rows["split"] == "test"]
    references, hypotheses = test["target"].tolist(), test["predicted"].tolist()
    assert metrics["pooled"]["cer"] == pytest.approx(jiwer.cer(references, hypotheses))
    assert metrics["pooled"]["wer"] == pytest.approx(jiwer.wer(references, hypotheses))
    page = (run / "report.html").read_text()
    for words in ("character error rate", "Worst sentences", "CTC loss per character"):
        assert words in page
    assert metrics["text"]["num_seen_sentences"] == 0


def test_evaluating_the_saved_model_gives_the_same_transcripts_and_names_what_was_seen(trained, tmp_path):
    config, run, _ = trained
    data = replace(config.data, max_reject_fraction=0.2)
    metrics = evaluate.main(EvaluateConfig(model=str(run / "model"), run=str(tmp_path), data=data))
    before, now = (frame(place, "predictions").set_index("clip_id") for place in (run, tmp_path))
    assert now.loc[before.index, "predicted"].tolist() == before["predicted"].tolist()
    assert now.loc[before.index, "target"].tolist() == before["target"].tolist()
    clips = frame(run, "manifest")
    num_train = int((clips["split"] == "train").sum())
    assert (metrics["clips_seen_in_training"], metrics["text"]["num_seen_sentences"]) == (
        num_train,
        num_train,
    )
    assert "TRAINED THIS MODEL" in metrics["computed_on"]
    assert "have a transcript that was seen in training" in (tmp_path / "report.html").read_text()


def test_transcripts_and_words_reach_csv_and_duckdb_alike(trained, tmp_path):
    config, run, _ = trained
    base = PredictConfig(model=str(run / "model"), run=str(tmp_path / "run"), data=config.data, words=True)
    counts = predict.main(base)
    uri = f"duckdb://{tmp_path}/p.db?table=transcripts"
    predict.main(replace(base, table=uri, run=str(tmp_path / "other"), window_s=20.0))
    with open(tmp_path / "run" / "predictions.csv", newline="") as file:
        rows = {row["clip_id"]: row for row in csv.DictReader(file)}
    with duckdb.connect(str(tmp_path / "p.db"), read_only=True) as db:
        stored = {
            row[0]: row[1:] for row in db.execute("SELECT clip_id, text, words FROM transcripts").fetchall()
        }
    assert len(rows) == len(stored) == counts["num_rows"] == 24
    for name, row in rows.items():
        assert stored[name] == (row["text"], row["words"])  # a clip that fits into a window is one
        words = json.loads(row["words"])
        assert " ".join(word["word"] for word in words) == row["text"]
        assert all(word["start_s"] < word["end_s"] <= float(row["end_s"]) for word in words)


@pytest.fixture(scope="module")
def foreign(tmp_path_factory):
    """A folder like that of facebook/wav2vec2-base-960h: upper case, special tokens, a processor; random weights."""
    folder = tmp_path_factory.mktemp("foreign")
    tokens = ["<pad>", "<s>", "</s>", "<unk>", "|", *"ETAONIHSRDLUMWCFGYPBVK'XJQZ"]
    (folder / "tokens.json").write_text(json.dumps({token: i for i, token in enumerate(tokens)}))
    tokenizer = Wav2Vec2CTCTokenizer(folder / "tokens.json")
    extractor = Wav2Vec2FeatureExtractor(do_normalize=True, return_attention_mask=False)
    Wav2Vec2Processor(feature_extractor=extractor, tokenizer=tokenizer).save_pretrained(folder)
    config = tiny_config()
    config.vocab_size, config.pad_token_id = len(tokens), 0
    torch.manual_seed(3)
    model = Wav2Vec2ForCTC(config)
    with torch.no_grad():
        model.lm_head.weight.mul_(20)  # it writes much
    model.save_pretrained(folder)
    return folder


def test_a_ctc_model_of_others_is_scored_and_writes_what_transformers_does(trained, foreign, tmp_path):
    config, run, _ = trained
    data = replace(config.data, max_reject_fraction=0.2)
    text = TextConfig(case="upper", drop_chars=".")
    metrics = evaluate.main(
        EvaluateConfig(model=str(foreign), run=str(tmp_path / "scored"), data=data, text=text)
    )
    assert "who trained the model is not known" in metrics["computed_on"]
    assert metrics["text"]["unknown_characters"] == {}
    rows = frame(tmp_path / "scored", "predictions")
    written = pipeline("automatic-speech-recognition", model=str(foreign), device="cpu")
    clips = frame(tmp_path / "scored", "manifest").set_index("clip_id")
    for _, row in rows.iloc[:4].iterrows():
        expected = written(load_waveform(Path(clips.loc[row["clip_id"], "uri"]).read_bytes(), AudioConfig()))
        # Outputs for the unknown and for the ends of sentences write nothing here, and their names in transformers.
        characters = re.sub("<unk>|<s>|</s>", "", expected["text"])
        assert row["predicted"] == " ".join(characters.split()) != ""
    assert metrics["pooled"]["cer"] == pytest.approx(
        jiwer.cer(rows["target"].tolist(), rows["predicted"].tolist())
    )
    predict.main(PredictConfig(model=str(foreign), run=str(tmp_path / "predicted"), data=config.data))
    with open(tmp_path / "predicted" / "predictions.csv", newline="") as file:
        texts = {row["clip_id"]: row["text"] for row in csv.DictReader(file)}
    assert all(texts[row["clip_id"]] == row["predicted"] for _, row in rows.iterrows())
    with pytest.raises(UserError, match=r"text\.\* is for CTC models that were not trained here"):
        evaluate.main(EvaluateConfig(model=str(run / "model"), run=str(tmp_path / "x"), data=data, text=text))


def test_a_folder_that_has_no_ctc_model_is_refused(tmp_path, ray_session):
    from transformers import Wav2Vec2Model

    Wav2Vec2Model(tiny_config()).save_pretrained(tmp_path / "encoder")
    with pytest.raises(
        UserError,
        match=r"model .*encoder' has no vocabulary, which would be in its vocab.json: wanted .* or a CTC model",
    ):
        predict.main(PredictConfig(model=str(tmp_path / "encoder"), run=str(tmp_path / "run")))


def test_a_finished_run_given_again_with_a_language_model_is_decoded_with_it_by_all_jobs(trained, tmp_path):
    pytest.importorskip("flashlight", reason="the extra asr is not installed")
    config, run, before = trained
    ngrams = {("<unk>",): (-9.0, 0.0), ("<s>",): (-99.0, 0.0), ("</s>",): (-0.6, 0.0)}
    ngrams |= {(word,): (-1.2, 0.0) for word in WORDS} | {("<s>", word): (-1.1, 0.0) for word in WORDS}
    arpa = write_arpa(tmp_path / "lm.arpa", ngrams)
    decode = DecodeConfig(kind="beam", lm=str(arpa), lexicon="lm", lm_weight=0.5, word_score=3.0)
    metrics = finetune.main(replace(config, decode=decode))
    assert metrics["model"]["digest"] == before["model"]["digest"]
    assert metrics["decoding"]["greedy"] == {name: before["pooled"][name] for name in ("wer", "cer")}
    assert metrics["decoding"]["lm_weight"] == 0.5
    assert "Decoded by a beam search of 50" in (run / "report.html").read_text()
    rows = frame(run, "predictions").set_index("clip_id")
    assert {word for text in rows["predicted"] for word in text.split()} <= set(WORDS)
    assert rows["predicted"].str.len().sum() > 0
    arpa.unlink()  # from here on the model folder's own is used
    data = replace(config.data, max_reject_fraction=0.2)
    chosen = DecodeConfig(kind="beam")
    base = {"model": str(run / "model"), "data": data, "decode": chosen}
    evaluate.main(EvaluateConfig(run=str(tmp_path / "scored"), **base))
    counts = predict.main(PredictConfig(run=str(tmp_path / "written"), **base))
    assert counts["predictor"].startswith(f"{before['model']['digest']}-beam-")
    scored = frame(tmp_path / "scored", "predictions").set_index("clip_id")
    assert scored.loc[rows.index, "predicted"].tolist() == rows["predicted"].tolist()
    with open(tmp_path / "written" / "predictions.csv", newline="") as file:
        written = {row["clip_id"]: row["text"] for row in csv.DictReader(file)}
    assert all(written[name] == text for name, text in rows["predicted"].items())
    with pytest.raises(UserError, match=r"decode.\* is for task.kind=transcript"):
        command_line.parse(FinetuneConfig, ["--decode.kind", "beam", "--decode.lm", "x"])


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        (["--decode.kind", "beam"], "decode.kind=beam needs a language model"),
        (["--encoder.pooling", "max"], "task.kind=transcript needs every frame, got max"),
        (["--audio.crop_s", "2"], "audio.crop_s cuts audio but not its transcript"),
        (["--augment.kinds", "[shift]"], "augment.kinds has shift"),
        (["--head.joined", "[mfcc]"], "head.joined has features of whole clips"),
        (["--text.vocab", "model", "--head.widths", "[8]"], "text.vocab=model keeps the output layer"),
        (["--task.kind", "classes", "--text.case", "lower"], r"text.\* is for task.kind=transcript"),
        (
            ["--task.kind", "classes", "--encoder.pooling", "none"],
            "encoder.pooling=none is for task.kind=transcript",
        ),
    ],
)
def test_settings_that_transcripts_cannot_have(flags, message):
    with pytest.raises(UserError, match=message):
        command_line.parse(FinetuneConfig, ["--task.kind", "transcript", *flags])


def test_the_recipe_is_what_the_readme_says_of_it():
    config = command_line.parse(
        FinetuneConfig, ["--config", str(ROOT / "jobs" / "recipes" / "transcript.yaml")]
    )
    assert (config.task.kind, config.data.uri, config.encoder.name) == ("transcript", "demo", "tiny")
