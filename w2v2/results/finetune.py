"""The end of a fine-tuning: tables, metrics.json, TensorBoard's events and the page."""

import logging
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from typing import TYPE_CHECKING

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from w2v2.config.data import TaskKind
from w2v2.config.digest import plain
from w2v2.config.finetune import FinetuneConfig
from w2v2.data import splits, transcripts
from w2v2.data.accounting import account
from w2v2.data.groups import among
from w2v2.data.manifest import Manifest
from w2v2.data.text import Vocabulary, character_table
from w2v2.evaluation import recognition
from w2v2.evaluation.decisions import decision_details, decision_lines
from w2v2.evaluation.details import class_details, detail_lines
from w2v2.evaluation.predictions import predictions_table, transcripts_table
from w2v2.evaluation.recording_quality import recording_details
from w2v2.evaluation.scores import score_lines, score_predictions
from w2v2.json_types import Json, JsonObject
from w2v2.models import provenance
from w2v2.models.model_card import extend_card
from w2v2.reports.recordings import corpus_name
from w2v2.results.ensembles import ensemble_lines, ensemble_scores, out_of_fold_predictions
from w2v2.results.operating_point import operating_point
from w2v2.results.search_score_lines import expected_lines
from w2v2.results.sessions import with_sessions
from w2v2.results.tensorboard import training_scalars, write_tensorboard
from w2v2.storage import files as storage
from w2v2.storage import run_directory
from w2v2.storage.mapped_tables import on_disk
from w2v2.versions import library_versions
from w2v2.wording import counted

if TYPE_CHECKING:  # imports torch
    from w2v2.training.ensembles import Ensemble
    from w2v2.training.finetuning import FinetuneResult

logger = logging.getLogger(__name__)


def write_outcome(
    config: FinetuneConfig,
    corpus: Manifest,
    names: Sequence[str],
    *,
    trained: "FinetuneResult",
    ensemble: "Ensemble | None" = None,
    midpoints: Sequence[float] | None,
    encoder: JsonObject,
    trunk: Mapping[str, int],
    before: JsonObject | None,
    text: JsonObject | None,
    seconds: float,
) -> dict[str, Json]:
    """The metrics of the test split, after all files of the run directory have been written.

    The model, written before, gets its scores into its card. midpoints are the means of the training targets of a
    regression, around which two values form quadrants; text is what write_vocabulary returned, for transcripts. Where
    an ensemble was trained, trained is its average.
    """
    predictions = _write_tables(config, corpus.clips, trained, names)
    test = among(predictions, pc.equal(predictions["split"], "test"))
    in_test = pc.equal(corpus.clips["split"], "test")
    scored_once = corpus.clips.select(["speaker", "audio_digest"]).filter(in_test)
    caveat = provenance.tuning_caveat(config.tuned_on, scored_once)
    metrics = _scores(config, test, names, midpoints) | _facts(config, corpus, trained)
    metrics |= {
        "computed_on": _computed_on(metrics, len(test), encoder, ensemble) + caveat,
        "encoder": dict(encoder),
        "trunk": dict(trunk),
        "seconds": round(seconds, 1),
    }
    if text is not None:
        decoding = _decoding(config, test, trained, predictions["clip_id"].to_pylist())
        metrics |= {"text": dict(text), "decoding": decoding}
    if before is not None:
        metrics["before_remapping"] = before["pooled"]
    held_out = out_of_fold_predictions(config, corpus, ensemble, names=names)
    kept = operating_point(
        config,
        predictions,
        names,
        heldout_speakers=set(scored_once["speaker"].unique().to_pylist()),
        out_of_fold=held_out,
    )
    metrics |= _details(config, test, corpus.clips, names, kept)
    estimate = _tuning_estimate(config)
    if ensemble is not None:
        of_ensemble = ensemble_scores(
            config, corpus, ensemble, out_of_fold=held_out, names=names, midpoints=midpoints
        )
        metrics["ensemble"] = of_ensemble
        estimate = of_ensemble.get("estimate") or estimate
    if estimate and caveat:  # the test split chose the settings, so its score is too high
        metrics["estimate"] = estimate
    metrics = with_sessions(config.run, metrics)
    _write_numbers(config, metrics, trained, {**kept, **({"estimate": estimate} if estimate else {})})
    _report(config, metrics, trained, {"manifest": corpus.clips, "predictions": predictions})
    return metrics


def _write_numbers(
    config: FinetuneConfig, metrics: JsonObject, trained: "FinetuneResult", kept: JsonObject
) -> None:
    """Writes metrics.json, the model card, and TensorBoard's events."""
    run_directory.write_metrics(config.run, metrics)
    _extend_card(config, metrics, kept)
    write_tensorboard(config.run, training_scalars(trained.curve))


def _scores(
    config: FinetuneConfig, test: pa.Table, names: Sequence[str], midpoints: Sequence[float] | None
) -> dict[str, Json]:
    return score_predictions(
        test,
        kind=config.task.kind,
        names=names,
        seed=config.seed,
        midpoints=midpoints,
        spaces=config.text.spaces,
    )


def _facts(config: FinetuneConfig, corpus: Manifest, trained: "FinetuneResult") -> dict[str, Json]:
    """The entries of metrics.json on the model, its training clips and the versions."""
    return {
        "job": "finetune",
        "splits": dict(splits.num_clips(corpus.clips)),
        "best_epoch": trained.best_epoch,
        "num_epochs": len(trained.curve),
        "learning_rate": config.optim.learning_rate,
        "model": _model(config, trained),
        "clips": account(corpus),
        "versions": versions(),
    }


def _computed_on(
    metrics: JsonObject,
    num_clips: int,
    encoder: JsonObject,
    ensemble: "Ensemble | None",
) -> str:
    """A sentence on the scored clips, and on what may make the scores too high."""
    return (
        f"the test split, once: {counted(num_clips, 'clips')} of {counted(metrics['num_speakers'], 'speakers')}, none of whom is in train or val"
        + (f", by the average of {len(ensemble.members)} models" if ensemble else "")
        + provenance.caveat(encoder)
    )


def _extend_card(config: FinetuneConfig, metrics: JsonObject, more: JsonObject) -> None:
    """Adds the scores, and the temperature or thresholds, to the model's card, which was written before."""
    card = {name: metrics[name] for name in ("computed_on", "pooled", "ensemble") if name in metrics}
    corpus = {"corpus": corpus_name(asdict(config.data))}
    extend_card(metrics["model"]["uri"], card | dict(more) | corpus)


def _report(
    config: FinetuneConfig, metrics: JsonObject, trained: "FinetuneResult", tables: Mapping[str, pa.Table]
) -> None:
    """Writes the page, from files and the tables at hand, and logs the scores and where everything is."""
    # Imported here: matplotlib takes a second, which the start of a job need not wait for.
    from w2v2.reports.model_page import write_model_report

    page = write_model_report(config.run, tables)
    scores = [
        *expected_lines(metrics),
        score_lines(metrics),
        *detail_lines(metrics),
        *decision_lines(metrics),
        *ensemble_lines(metrics),
    ]
    logger.info("%s", "\n".join(scores))
    logger.info(
        "model: %s/model, %.3f M parameters trained", config.run, trained.num_trained_parameters / 1e6
    )
    logger.info("page: %s", page)


def _model(config: FinetuneConfig, trained: "FinetuneResult") -> dict[str, Json]:
    return {
        "digest": trained.digest,
        "uri": f"{config.run}/model",
        "num_trained_parameters": trained.num_trained_parameters,
    }


def _write_tables(
    config: FinetuneConfig, clips: pa.Table, trained: "FinetuneResult", names: Sequence[str]
) -> pa.Table:
    """The predictions, after they and the learning curve have been written."""
    kept = {"clip_id", "speaker", "split", "label", "reference"}
    wanted = [name for name in clips.column_names if name in kept or name.startswith("target_")]
    scored = clips.select(wanted).take(pa.array(trained.rows))
    predictions = on_disk(_predictions(scored, trained, kind=config.task.kind, names=names))
    run_directory.write_table(config.run, "predictions", predictions)
    curves = pa.Table.from_pylist([asdict(point) for point in trained.curve], schema=CURVES)
    run_directory.write_table(config.run, "curves", curves)
    return predictions


def _details(
    config: FinetuneConfig, test: pa.Table, clips: pa.Table, names: Sequence[str], kept: JsonObject
) -> dict[str, Json]:
    """Details beyond the scores: slices and calibration of classes, decisions and patients of labels, quality of the recordings."""
    match config.task.kind:
        case "classes":
            return class_details(
                test,
                clips,
                names,
                columns=config.data.slice_columns,
                seed=config.seed,
                temperature=kept.get("temperature"),
            )
        case "multi_label":
            decisions = decision_details(test, names, thresholds=kept.get("thresholds"), seed=config.seed)
            return decisions | {"recordings": recording_details(clips)}
        case _:
            return {"recordings": recording_details(clips)}


def _tuning_estimate(config: FinetuneConfig) -> Json:
    """`estimate` of the search that chose the settings.

    None where there was no search, and, with a warning, where its file is there and cannot be read.
    """
    if not config.tuned_on or config.task.kind != "classes":
        return None
    try:
        return run_directory.read_metrics(storage.expand(config.tuned_on)).get("estimate")
    except storage.NotFoundError:  # provenance.tuning_caveat has warned of a search that is gone
        pass
    except storage.StorageError as error:
        logger.warning("no estimate of the search in tuned_on: %s", error)
    return None


def _predictions(
    clips: pa.Table, trained: "FinetuneResult", *, kind: TaskKind, names: Sequence[str]
) -> pa.Table:
    """The rows of predictions.parquet."""
    keep = ["clip_id", "speaker", "split"]
    if isinstance(trained.values, np.ndarray):
        return predictions_table(clips, trained.values, kind=kind, names=names, keep=keep)
    return transcripts_table(clips, trained.values, keep=keep)


def _decoding(
    config: FinetuneConfig, test: pa.Table, trained: "FinetuneResult", clip_ids: Sequence[str]
) -> dict[str, Json]:
    """How the transcripts were decoded; for a beam search its weights, the weights tried on val, and the rates of greedy decoding.

    clip_ids are those of trained.rows.
    """
    if trained.beam is None:
        return plain(config.decode)
    greedy = dict(zip(clip_ids, [transcript.text for transcript in trained.beam.greedy], strict=True))
    rows = test.select(["clip_id", "target", "speaker"]).to_pylist()
    rates = recognition.scores(
        [row["clip_id"] for row in rows],
        [row["target"] for row in rows],
        [greedy[row["clip_id"]] for row in rows],
        [row["speaker"] for row in rows],
        spaces=config.text.spaces,
        seed=config.seed,
    )
    decode = trained.beam.decode
    logger.info(
        "decoding: beam search with lm_weight %s and word_score %s", decode.lm_weight, decode.word_score
    )
    return {
        **plain(decode),
        "tried": [asdict(transcript) for transcript in trained.beam.tried],
        "greedy": {name: rates[name] for name in recognition.METRICS},
    }


def write_vocabulary(run: str, clips: pa.Table, vocabulary: Vocabulary) -> dict[str, Json]:
    """The entry of metrics.json on the text, after `<run>/vocab.json` and `<run>/text.parquet` have been written.

    text.parquet has each character of the references with its number in each split. clips have reference and
    split. Warns of characters of the test split that the model cannot write, and of test clips whose very
    sentence is in the training split.
    """
    storage.write_text(storage.join(run, "vocab.json"), vocabulary.to_json())
    table = character_table(clips["reference"].to_pylist(), clips["split"].to_pylist(), vocabulary)
    run_directory.write_table(run, "text", table)
    test = transcripts.references_of(clips, "test")
    unknown = transcripts.warn_unknown(test, vocabulary, where="the test split")
    num_in_train = transcripts.num_in_train(clips)
    transcripts.warn_seen(num_in_train, len(test), where="was seen in training")
    return {
        "num_outputs": len(vocabulary.tokens),
        "unknown_characters": unknown,
        "num_seen_sentences": num_in_train,
    }


CURVES = pa.schema(
    [
        ("epoch", pa.int64()),
        ("train_loss", pa.float64()),
        ("train_uar", pa.float64()),
        ("learning_rate", pa.float64()),
        ("val_loss", pa.float64()),
    ]
)


def versions() -> dict[str, str]:
    """Versions of this code and of the libraries that the numbers depend on."""
    return library_versions("torch", "transformers", "ray")
