"""The score of an ensemble on new speakers, from the fold records of the search that chose its settings: nothing is trained for it.

Every clip is predicted by models that have not seen its speaker, and no fold has a part in the choice of the settings
that it is scored with:

- folds: the models of a trial are an ensemble of which each has left out one fold, and the fold store has each fold's
  clips as predicted by the one that left it out. The choice among the ensembles of all complete trials is corrected
  for by BBC-CV (evaluation.selection). That is the score of single members: all other members have seen the clip's
  speaker.
- seeds: where the search has trained each fold's choice on the other folds with new seeds (search.final_seeds),
  the averages of as many of these models as the ensemble has. Without them, the score of single models as above.
"""

import logging
from collections.abc import Sequence

from w2v2.config.finetune import FinetuneConfig
from w2v2.errors import UserError
from w2v2.evaluation.bootstrap import Scored, intervals
from w2v2.evaluation.scores import scored
from w2v2.json_types import Json, JsonObject
from w2v2.results.compared_runs import ComparedRun, read_run, scored_run
from w2v2.search.estimate import INTERVAL, interval_json
from w2v2.search.final_trainings import FILE, seed_averages
from w2v2.storage import files as storage
from w2v2.storage import run_directory

logger = logging.getLogger(__name__)


def ensemble_estimate(config: FinetuneConfig, classes: Sequence[str]) -> dict[str, Json] | None:
    """`estimate` of an ensemble, in the same form as the estimate of a search; None where no search chose the settings.

    It is also None, with a warning, where the search's files cannot be read, or have other classes.
    """
    if not config.tuned_on or config.task.kind != "classes":
        return None
    try:
        search = read_run(storage.expand(config.tuned_on))
        _check(search, classes)
        predictions, about = _averages(config, search) or _single_models(config, search)
    except UserError as error:
        logger.warning("no estimate of the ensemble: %s", error)
        return None
    before = search.metrics["estimate"]
    return {
        **about,
        "metric": before["metric"],
        "metrics": {
            name: interval_json(score) for name, score in intervals(predictions, seed=config.seed).items()
        },
        "num_speakers": len(predictions.speakers),
        "num_folds": before["num_folds"],
        "num_trials": before["num_trials"],
        "interval": INTERVAL,
    }


def _check(search: ComparedRun, classes: Sequence[str]) -> None:
    """Raises UserError for a run that is no search of these classes."""
    if search.metrics["job"] != "tune_folds" or sorted(search.names) != sorted(classes):
        raise UserError(f"tuned_on {search.uri} is no search of the classes {', '.join(classes)}")
    if "estimate" not in search.metrics:
        raise UserError(
            f"tuned_on {search.uri} is of an earlier version: give its command again, which trains nothing anew"
        )


def _averages(config: FinetuneConfig, search: ComparedRun) -> tuple[Scored, JsonObject] | None:
    """Averages over seeds, and their description; None where the ensemble has other members, or the search trained fewer than two seeds."""
    seeds = search.metrics.get("final", {}).get("seeds", [])
    if config.ensemble != "seeds" or len(seeds) < 2:
        return None
    size = min(config.ensemble_size, len(seeds))
    averages = seed_averages(run_directory.read_table(search.uri, FILE), search.names, num_seeds=size)
    how = (
        f"Each fold is predicted by the average of {size} models of different seeds, with hyperparameters that the other folds chose, "
        f"from the fold records of {config.tuned_on}."
    )
    if size < config.ensemble_size:
        how += f" The ensemble has {config.ensemble_size} models; the search trained {size} (search.final_seeds)."
    about = {
        "name": f"{search.metrics['estimate']['name']}, {size} averaged",
        "num_averaged": size,
        "how": how,
    }
    return scored(averages, "classes", search.names), about


def _single_models(config: FinetuneConfig, search: ComparedRun) -> tuple[Scored, JsonObject]:
    """Each clip as predicted by one model of an ensemble, and the description of these predictions."""
    how = (
        f"{search.metrics['estimate']['how']} The models of a trial's folds are an ensemble, of which the one without a clip's "
        f"speaker predicts it, from the fold records of {config.tuned_on}: the score of single models, which an average is usually above."
    )
    if config.ensemble == "seeds":
        how += " A search with --search.final_seeds estimates the average of seeds."
    about = {"name": f"{search.metrics['estimate']['name']}, single models", "num_averaged": 1, "how": how}
    return scored_run(search, search.names, seed=config.seed), about
