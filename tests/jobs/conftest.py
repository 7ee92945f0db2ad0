"""A finished search."""

import pytest

from tests.jobs.searches import make_config
from w2v2.config.tune_folds import SearchConfig
from w2v2.jobs import tune_folds


@pytest.fixture(scope="session")
def finished(tmp_path_factory, corpus, ray_session):
    """A finished run of two trials, its config and its metrics."""
    tmp_path = tmp_path_factory.mktemp("finished")
    config = make_config(
        tmp_path, corpus, search=SearchConfig(num_trials=2, max_concurrent_trials=2, pruning="none")
    )
    return tmp_path / "run", config, tune_folds.main(config)
