"""The scores of an ensemble's members, and of the training clips by the one member that has not seen their speaker."""

from collections.abc import Sequence
from typing import TYPE_CHECKING

import pyarrow as pa
import pyarrow.compute as pc

from w2v2.config.finetune import FinetuneConfig
from w2v2.data.manifest import Manifest
from w2v2.evaluation.predictions import predictions_table
from w2v2.evaluation.scores import score_predictions
from w2v2.json_types import Json, JsonObject
from w2v2.models import provenance
from w2v2.reports.ensemble_section import member_headline
from w2v2.results.ensemble_estimate import ensemble_estimate
from w2v2.results.search_score_lines import expected_lines
from w2v2.storage import run_directory

if TYPE_CHECKING:  # imports torch
    from w2v2.training.ensembles import Ensemble
    from w2v2.training.finetuning import FinetuneResult


def ensemble_scores(
    config: FinetuneConfig,
    corpus: Manifest,
    ensemble: "Ensemble",
    *,
    out_of_fold: pa.Table | None,
    names: Sequence[str],
    midpoints: Sequence[float] | None,
) -> dict[str, Json]:
    """`ensemble` of metrics.json; out_of_fold is what out_of_fold_predictions returned.

    `estimate` is what to expect on new speakers, where a search chose the settings (see ensemble_estimate); `members` has
    each one's digest, kept epoch and scores of the test split; `out_of_fold` the scores of the training clips, each by
    the one member that was trained without its speaker.
    """
    estimate = ensemble_estimate(config, names)
    scores: dict[str, Json] = {
        **({"estimate": estimate} if estimate else {}),
        "kind": config.ensemble,
        "members": [
            _member(config, corpus, member, names=names, midpoints=midpoints) for member in ensemble.members
        ],
    }
    if ensemble.out_of_fold is not None and out_of_fold is not None:
        clips = corpus.clips.take(pa.array(ensemble.out_of_fold.rows))
        scores["out_of_fold"] = _out_of_fold(config, out_of_fold, clips, names=names, midpoints=midpoints)
    return scores


def ensemble_lines(metrics: JsonObject) -> list[str]:
    """Lines for the terminal: what to expect of the ensemble, each member's leading score, the training clips' out of fold; none without members."""
    if "ensemble" not in metrics:
        return []
    ensemble = metrics["ensemble"]
    lines = [] if "estimate" in metrics else expected_lines(ensemble)
    scores = [member_headline(metrics, member) for member in ensemble["members"]]
    texts = ", ".join(score.form(score.value) for score in scores)
    lines.append(f"{scores[0].metric} of each of its {len(scores)} models: {texts}")
    if held_out := ensemble.get("out_of_fold"):
        held_out_score = member_headline(metrics, held_out)
        lines.append(
            f"out of fold: {held_out_score.metric} {held_out_score.form(held_out_score.value)} ({held_out_score.within}), {held_out['computed_on']}"
        )
    return lines


def _member(
    config: FinetuneConfig,
    corpus: Manifest,
    member: "FinetuneResult",
    *,
    names: Sequence[str],
    midpoints: Sequence[float] | None,
) -> dict[str, Json]:
    clips = corpus.clips.take(pa.array(member.rows))
    assert not isinstance(member.values, Sequence), "ensembles have no transcripts"
    keep = ["clip_id", "speaker", "split"]
    predictions = predictions_table(clips, member.values, kind=config.task.kind, names=names, keep=keep)
    test = predictions.filter(pc.equal(predictions["split"], "test"))
    scores = score_predictions(
        test, kind=config.task.kind, names=names, seed=config.seed, midpoints=midpoints
    )
    return {"digest": member.digest, "best_epoch": member.best_epoch, "pooled": scores["pooled"]}


def out_of_fold_predictions(
    config: FinetuneConfig, corpus: Manifest, ensemble: "Ensemble | None", *, names: Sequence[str]
) -> pa.Table | None:
    """The rows of out_of_fold.parquet, after they have been written: each training clip as predicted by the member without its speaker.

    None where no member has held a fold out.
    """
    if ensemble is None or ensemble.out_of_fold is None:
        return None
    held_out = ensemble.out_of_fold
    clips = corpus.clips.take(pa.array(held_out.rows))
    if "fold" in clips.column_names:
        clips = clips.drop_columns(["fold"])
    clips = clips.append_column("fold", pa.array(held_out.fold))
    keep = ["clip_id", "speaker", "fold"]
    predictions = predictions_table(clips, held_out.values, kind=config.task.kind, names=names, keep=keep)
    run_directory.write_table(config.run, "out_of_fold", predictions)
    return predictions


def _out_of_fold(
    config: FinetuneConfig,
    predictions: pa.Table,
    clips: pa.Table,
    *,
    names: Sequence[str],
    midpoints: Sequence[float] | None,
) -> dict[str, Json]:
    """Scores of single models: each of these clips is predicted by one member, a new speaker by all members."""
    scores = score_predictions(
        predictions, kind=config.task.kind, names=names, seed=config.seed, midpoints=midpoints
    )
    computed_on = (
        f"{len(predictions)} training clips, each by the one of {config.ensemble_size} models that was trained without its speaker"
        + provenance.tuning_caveat(config.tuned_on, clips)
    )
    return {"pooled": scores["pooled"], "num_speakers": scores["num_speakers"], "computed_on": computed_on}
