"""The case scale, in small: the drivers' real steps over loopback servers."""

import pytest

from w2v2.benchmarks import scale_case
from w2v2.benchmarks.config import BenchmarkConfig, ScaleSizes
from w2v2.benchmarks.result import lines_of
from w2v2.errors import UserError


@pytest.mark.parametrize(
    "job",
    [
        "extract_embeddings",
        pytest.param("tune_folds", marks=pytest.mark.slow),
        pytest.param("tune_layers", marks=pytest.mark.slow),
        pytest.param("finetune", marks=pytest.mark.slow),
        pytest.param("evaluate", marks=pytest.mark.slow),
        pytest.param("predict", marks=pytest.mark.slow),
    ],
)
def test_a_first_run_makes_all_and_a_second_one_nothing(tmp_path, job):
    config = BenchmarkConfig(cases=("scale",), scale=ScaleSizes(jobs=(job,), num_clips=(1_500,), dim=3))
    result = scale_case.scale(config, tmp_path)
    by_name = {(one.part, one.what): one for one in result.agreements}
    assert len(by_name) == 10
    for part, least in (("first run", 1.0), ("second run", 0.0)):
        one = by_name[f"{job}, 1,500 clips, {part}", "requests for each clip"]
        assert least < one.value < least + 0.5, one  # a few hundred for each run
    assert by_name[f"{job}, 1,500 clips, second run", "driver's peak memory, MB"].value > 100
    whole, anonymous = (
        by_name[f"{job}, 1,500 clips, first run", f"driver's peak memory{which}, MB"].value
        for which in ("", " without mapped files")
    )
    assert 50 < anonymous < whole
    assert any("requests: " in line for line in lines_of(result))


def test_without_a_checkout_it_says_so(tmp_path, monkeypatch):
    monkeypatch.setattr(scale_case, "ROOT", tmp_path)
    with pytest.raises(UserError, match=r"there is no .*scale_driver.py: run it from a checkout"):
        scale_case.check_driver()


@pytest.mark.parametrize(
    ("sizes", "message"),
    [
        ({"jobs": ()}, r"scale.jobs is empty: name one or more of extract_embeddings, tune_folds"),
        ({"num_clips": (100,)}, r"scale.num_clips must be at least 1000 for jobs that train, got 100"),
    ],
)
def test_impossible_sizes_are_refused(sizes, message):
    with pytest.raises(UserError, match=message):
        ScaleSizes(**sizes)
