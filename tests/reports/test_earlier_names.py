"""The page of a run that an earlier version wrote: its keys of metrics.json are read under their present names."""

import json

import pytest

from tests.made.model_run import write_task_run
from w2v2.reports.checks import model_checks
from w2v2.reports.run_files import read_model_run

EARLIER = {
    "heard_speakers": 2,
    "heard_clips": 9,
    "heard_by_audio": {"speakers": 1, "clips": 4},
}
PRESENT = {
    "speakers_seen_in_training": 2,
    "clips_seen_in_training": 9,
    "seen_as_audio_alone": {"speakers": 1, "clips": 4},
}


def cares(folder) -> list[str]:
    return [check.text for check in model_checks(read_model_run(str(folder))) if not check.is_good]


@pytest.fixture
def evaluation(tmp_path):
    def write(name, values, encoder):
        def change(metrics):
            metrics |= {"job": "evaluate", **values}
            metrics["encoder"] |= encoder

        return write_task_run(tmp_path / name, "classes", change=change)

    return write


def test_the_page_of_an_earlier_run_says_what_was_seen_in_training(evaluation):
    sentence = "9 of the clips TRAINED THE ENCODER, so this is no score of unseen speakers"
    earlier = evaluation("earlier", EARLIER, {"heard": sentence})
    present = evaluation("present", PRESENT, {"seen_in_training": sentence})
    assert "heard_clips" in json.loads((earlier / "metrics.json").read_text())
    checks = cares(earlier)
    assert checks == cares(present)
    assert any(text.startswith("9 of the clips were seen in training") for text in checks)
    assert any(sentence in text for text in checks)
    assert any(
        text.startswith("1 of the speakers and 4 of the clips pre-trained the encoder") for text in checks
    )
