"""An encoder for another rate than 16 kHz, or with an adapter, is refused by every job before Ray starts and audio is read."""

import json
import re
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from transformers import (
    SeamlessM4TFeatureExtractor,
    Wav2Vec2CTCTokenizer,
    Wav2Vec2FeatureExtractor,
    Wav2Vec2ForCTC,
    Wav2Vec2Processor,
)

import w2v2
from tests.cloud.gcs import FakeGcs, gcs_environment
from tests.made.encoders import change_config, random_model
from tests.models.test_pretrained_remote import FakeHub
from w2v2.errors import UserError
from w2v2.jobs import benchmark, evaluate, export, extract_embeddings, finetune, predict, pretrain, tune_folds
from w2v2.models import fold_encoders, provenance
from w2v2.models.architecture import refuse_unusable

NO_AUDIO = ["--data.uri", "/nowhere/audio"]
"""A job that reads its data before it looks at the encoder ends with another sentence."""
CLIPS = pa.table({"speaker": ["s1"], "audio_digest": ["d1"]})
ENCODER_JOBS = (finetune, tune_folds, pretrain, extract_embeddings)


def at_24_khz(folder: Path) -> None:
    Wav2Vec2FeatureExtractor(sampling_rate=24_000).save_pretrained(folder)


def spectra_at_48_khz(folder: Path) -> None:
    SeamlessM4TFeatureExtractor(sampling_rate=48_000, feature_size=8, num_mel_bins=8).save_pretrained(folder)


def in_processor_config(folder: Path) -> None:
    """As today's transformers saves a processor."""
    tokenizer = Wav2Vec2CTCTokenizer(str(vocabulary(folder)))
    Wav2Vec2Processor(Wav2Vec2FeatureExtractor(sampling_rate=8_000), tokenizer).save_pretrained(folder)
    assert not (folder / "preprocessor_config.json").exists()


def in_config(folder: Path) -> None:
    """As models without a file for their front end have it."""
    change_config(folder, sample_rate=24_000)


def with_adapter(folder: Path) -> None:
    change_config(folder, add_adapter=True)


REFUSED: dict[str, tuple[Callable[[Path], None], str]] = {
    "24 kHz": (at_24_khz, r" wants audio of 24000 Hz \(sampling_rate in preprocessor_config\.json\), and audio is 16000"),
    "spectra": (spectra_at_48_khz, r" wants audio of 48000 Hz \(sampling_rate in preprocessor_config\.json\)"),
    "processor": (in_processor_config, r" wants audio of 8000 Hz \(feature_extractor\.sampling_rate in processor_config\.json\)"),
    "config": (in_config, r" wants audio of 24000 Hz \(sample_rate in config\.json\)"),
    "adapter": (with_adapter, r": its config\.json has add_adapter: true"),
}  # fmt: skip


def vocabulary(folder: Path) -> Path:
    path = folder / "vocab.json"
    path.write_text(json.dumps({"<pad>": 0, "<unk>": 1, "|": 2, "<s>": 3, "</s>": 4} | {c: i + 5 for i, c in enumerate("abcd")}))  # fmt: skip
    return path


@pytest.fixture(params=list(REFUSED))
def refused(request: pytest.FixtureRequest, tmp_path: Path) -> tuple[Path, str]:
    """A folder that cannot be used, and the sentence."""
    change, sentence = REFUSED[request.param]
    folder = tmp_path / "encoder"
    random_model(Wav2Vec2ForCTC).save_pretrained(folder)
    change(folder)
    return folder, sentence


@pytest.fixture
def nothing_loads(monkeypatch: pytest.MonkeyPatch) -> None:
    """No Ray starts and no model is opened."""

    def unexpected(*args: Any, **kwargs: Any) -> None:
        raise AssertionError("too late")

    monkeypatch.setattr("w2v2.cluster.workers.start_workers", unexpected)
    monkeypatch.setattr("w2v2.models.pretrained.open_folder", unexpected)


def refusal(job: Any, flags: list[str], capfd: pytest.CaptureFixture) -> str:
    """The one line with which a job ends."""
    assert job.run(flags) == 2
    (line,) = capfd.readouterr().err.splitlines()
    return line


@pytest.mark.parametrize("job", ENCODER_JOBS, ids=lambda job: job.__name__.rpartition(".")[2])
def test_every_job_with_an_encoder_refuses_it_at_once(
    job: Any, refused: tuple[Path, str], tmp_path: Path, nothing_loads: None, capfd: pytest.CaptureFixture
) -> None:
    folder, sentence = refused
    flags = [*NO_AUDIO, "--run", str(tmp_path / "run"), "--encoder.name", str(folder)]
    for more in ([], ["--plan", "true"]):
        assert re.match(f"error: encoder.name '{folder}'{sentence}", refusal(job, [*flags, *more], capfd))
    assert not (tmp_path / "run").exists()


def test_the_other_jobs_and_python_refuse_it_too(
    refused: tuple[Path, str], tmp_path: Path, nothing_loads: None, capfd: pytest.CaptureFixture
) -> None:
    folder, sentence = refused
    if not (folder / "vocab.json").exists():
        vocabulary(folder)
    run = ["--run", str(tmp_path / "run")]
    for job, data in ((evaluate, NO_AUDIO), (predict, NO_AUDIO), (export, [])):
        line = refusal(job, [*data, *run, "--model", str(folder)], capfd)
        assert re.match(f"error: model '{folder}'{sentence}", line)
    line = refusal(benchmark, ["extract", *run, "--encoder", str(folder)], capfd)
    assert re.match(f"error: encoder '{folder}'{sentence}", line)
    with pytest.raises(UserError, match=f"^model '{folder}'{sentence}"):
        w2v2.load_model(folder)
    with pytest.raises(UserError, match=f"^model '{folder}'{sentence}"):
        w2v2.predict(str(folder), "/nowhere.wav")


def test_an_embedding_in_python_refuses_it(refused: tuple[Path, str]) -> None:
    folder, sentence = refused
    with pytest.raises(UserError, match=f"^encoder.name '{folder}'{sentence}"):
        w2v2.embed(np.ones(16_000), sampling_rate=16_000, encoder=str(folder))


def test_an_encoder_among_those_of_a_search_and_of_folds_is_refused(
    refused: tuple[Path, str], tmp_path: Path, nothing_loads: None, capfd: pytest.CaptureFixture
) -> None:
    folder, sentence = refused
    flags = [*NO_AUDIO, "--run", str(tmp_path / "run")]
    space = f"{{encoder.name: {{choices: [tiny, {folder}]}}}}"
    line = refusal(tune_folds, [*flags, "--search.space", space], capfd)
    assert re.match(f"error: encoder.name '{folder}'{sentence}", line)
    by_fold = tmp_path / "by-fold"
    fold_encoders.write(str(by_fold), num_folds=2)
    for fold in range(2):
        model = Path(fold_encoders.model_of_fold(str(by_fold), fold))
        shutil.copytree(folder, model)
        provenance.write(str(model), CLIPS, encoder="", how="audio")
    line = refusal(
        tune_folds,
        [*flags, "--encoder", str(by_fold), "--folds.kind", "grouped", "--folds.num_folds", "2"],
        capfd,
    )
    assert re.match(f"error: encoder.name '{by_fold}/fold-0/model'{sentence}", line)


def test_what_a_bucket_and_the_hub_have_is_looked_at_before_it_is_downloaded_whole(
    refused: tuple[Path, str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder, sentence = refused
    with FakeGcs("weights") as server:
        for name, value in gcs_environment(server).items():
            monkeypatch.setenv(name, value)
        for path in folder.iterdir():
            server.put("weights", f"models/{path.name}", path.read_bytes())
        with pytest.raises(UserError, match=f"^encoder.name 'gs://weights/models'{sentence}"):
            refuse_unusable("gs://weights/models")
        assert not server.count("GET", "model.safetensors")
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path / "hub"))
    with FakeHub(folder=folder) as hub:
        hub.visit(monkeypatch)
        with pytest.raises(UserError, match=f"^encoder.name 'somebody/model'{sentence}"):
            refuse_unusable("somebody/model")
        assert not hub.count("GET", "/model.safetensors")


@pytest.mark.parametrize("content", ["", "{", "[]", '{"sampling_rate": null}', '{"feature_extractor": 3}'])
def test_what_says_nothing_is_left_to_the_loader(content: str, tmp_path: Path) -> None:
    random_model().save_pretrained(tmp_path)
    for name in ("preprocessor_config.json", "processor_config.json"):
        (tmp_path / name).write_text(content)
    assert refuse_unusable(str(tmp_path)) is None
    assert refuse_unusable("no/such-model-on-the-hub") is None
    # The same file is what counts once it says a rate.
    (tmp_path / "preprocessor_config.json").write_text('{"sampling_rate": 24000}')
    with pytest.raises(UserError, match="wants audio of 24000 Hz"):
        refuse_unusable(str(tmp_path))


def test_a_rate_that_is_no_number_is_no_rate_of_ours(tmp_path: Path) -> None:
    (tmp_path / "preprocessor_config.json").write_text('{"sampling_rate": "fast"}')
    with pytest.raises(UserError, match="wants audio of fast Hz"):
        refuse_unusable(str(tmp_path))
    for same in ("16000", "16000.0", '"16000"'):
        (tmp_path / "preprocessor_config.json").write_text(f'{{"sampling_rate": {same}}}')
        refuse_unusable(str(tmp_path))
