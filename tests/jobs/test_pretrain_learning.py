"""jobs/pretrain.py as it learns, and as it does not: a healthy run helps a classifier, and each collapse is recognised in a real one."""

import json
from pathlib import Path

import pyarrow.parquet as pq
import pytest

from tests.jobs.test_pretrain import KEPT_OUT, config_of
from w2v2.config import command_line
from w2v2.config.finetune import FinetuneConfig
from w2v2.data.corpora.demo import make_corpus
from w2v2.errors import UserError
from w2v2.jobs import finetune, pretrain

pytestmark = [pytest.mark.slow, pytest.mark.timeout(2400)]


@pytest.fixture(scope="module")
def talkers(tmp_path_factory) -> Path:
    """The built-in corpus as jobs have it, two statements each."""
    return make_corpus(tmp_path_factory.mktemp("talkers"))


def uar_of_unseen_actors(folder: Path, talkers: Path, encoder: str) -> float:
    """UAR of a head on actors 21 to 24, whom neither it nor the encoder has seen."""
    flags = ["--data.uri", str(talkers), "--cache.uri", str(folder / "cache"), "--encoder.name", encoder]
    flags += ["--folds.kind", "consecutive", "--split.kind", "fold", "--split.fold", "5"]
    flags += ["--encoder.train", "head", "--encoder.pooling", "mean+std", "--training.num_epochs", "20"]
    run = folder / f"head-on-{Path(encoder).parent.name}"
    config = command_line.parse(FinetuneConfig, [*flags, "--run", str(run), "--optim.learning_rate", "1e-2"])
    metrics = finetune.main(config)
    rows = pq.read_table(run / "predictions.parquet")
    assert set(rows["speaker"].to_pylist()) == set(KEPT_OUT)
    assert "TRAINED THE ENCODER" not in metrics["computed_on"]
    return metrics["pooled"]["uar"]


def test_a_healthy_run_learns_and_helps_a_head_on_speakers_whom_nothing_has_seen(
    talkers, tmp_path, ray_session
):
    flags = ["--data.exclude_speakers", json.dumps(KEPT_OUT), "--training.num_epochs", "13"]
    metrics = pretrain.main(config_of(tmp_path, talkers, *flags))
    last = metrics["last"]
    assert metrics["state"] == "healthy" and last["split"] == "val"
    assert last["accuracy"] > 3 * last["chance_accuracy"]
    assert last["perplexity"] > 0.25 * metrics["num_codes"]
    pretrained = uar_of_unseen_actors(tmp_path, talkers, str(tmp_path / "run" / "model"))
    assert pretrained >= uar_of_unseen_actors(tmp_path, talkers, "tiny") + 0.1


def test_a_loss_that_stays_at_guessing_while_the_codes_spread_stops_the_job(talkers, tmp_path, ray_session):
    flags = ["--optim.learning_rate", "3e-2", "--training.num_epochs", "13", "--checkpoint.every_steps", "5"]
    with pytest.raises(UserError, match=r"only the diversity of the codes is learned.*lower --optim"):
        pretrain.main(config_of(tmp_path, talkers, *flags))
    kept = sorted((tmp_path / "run" / "checkpoints").glob("*.json"))
    position = json.loads(kept[-1].read_text())["state"]["positions"][0]
    assert position["alarms"] == {"few_codes": 0, "stuck": 0}
    # By its perplexity alone this run looks better than a healthy one.
    assert position["steps"][-1]["perplexity"] > 0.5 * 128
