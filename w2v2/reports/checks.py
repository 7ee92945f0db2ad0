"""Reasons to trust the scores of a run, or to take care: one list for searches and for single models."""

from collections.abc import Iterator, Sequence

import pyarrow as pa
import pyarrow.compute as pc

from w2v2.data.groups import repeated
from w2v2.evaluation.bootstrap import MIN_UNITS
from w2v2.evaluation.recording_quality import channel_warning, class_warnings, clipping_warning
from w2v2.json_types import JsonObject
from w2v2.reports.blocks import Check
from w2v2.reports.estimate import Headline, model_headline, tune_headline
from w2v2.reports.run_files import ModelRun, RunFiles, TuneRun
from w2v2.reports.text import percent_text
from w2v2.wording import counted, listed


def tune_checks(run: TuneRun) -> list[Check]:
    """Every check of a search: of the data first, then of its scores."""
    metrics, headline = run.metrics, tune_headline(run)
    return [
        *_encoder(metrics),
        *_parts(run.manifest, "fold"),
        _real(run, is_pretrained=True),
        _rejects(run),
        _above_chance(headline),
        *_selection(run, headline),
        _num_speakers(metrics["data"]["num_speakers"]),
        *_recordings(metrics),
        *_scored_content(run),
    ]


def _scored_content(run: TuneRun) -> Iterator[Check]:
    metrics = run.metrics
    if run.is_text:
        yield from _transcripts(metrics)
        yield _same_number(metrics, run.predictions)
    else:
        yield from _classes(metrics["pooled"], has_absent=False)
        yield _same_hits(metrics["pooled"], run.predictions)


def model_checks(run: ModelRun) -> list[Check]:
    """Every check of a model's scores: of the data first, then of the scores."""
    metrics = run.metrics
    return [
        *_encoder(metrics),
        *_seen_in_training(metrics),
        *(_parts(run.manifest, run.part) if run.has_parts else ()),
        _real(run, is_pretrained=run.part == "split"),
        _rejects(run),
        _above_chance(model_headline(metrics)),
        _num_speakers(metrics["num_speakers"]),
        *_recordings(metrics),
        *_completeness(metrics),
        _same_number(metrics, run.predictions),
    ]


def _check(is_good: bool, good: str, care: str) -> Check:
    return Check(is_good=is_good, text=good if is_good else care)


def _encoder(metrics: JsonObject) -> Iterator[Check]:
    """Whether an encoder that was trained here before has seen the clips that are scored."""
    if (encoders := metrics.get("encoder", {}).get("of_fold")) is not None:
        yield Check(
            is_good=True,
            text=f"Each of the {len(encoders)} folds had an encoder of its own, pre-trained without the audio of the speakers "
            "that it holds out.",
        )
    elif (seen := metrics.get("encoder", {}).get("seen_in_training")) is not None:
        if seen and "score" not in seen:  # older versions wrote the counts alone
            seen = f"{seen} were used to train the encoder"
        yield _check(
            not seen,
            "None of the scored speakers and recordings were used to train the encoder.",
            f"The encoder that this run began with: {seen}.",
        )


def _seen_in_training(metrics: JsonObject) -> Iterator[Check]:
    if "speakers_seen_in_training" not in metrics:
        return
    num_speakers, num_clips = (metrics[f"{unit}_seen_in_training"] for unit in ("speakers", "clips"))
    yield _check(
        not num_speakers,
        f"None of the {metrics['num_speakers']} speakers has the name of one seen in training.",
        f"{num_speakers} of the {metrics['num_speakers']} speakers have the name of one seen in training: if they are "
        "the same people, this is not a score on unseen speakers.",
    )
    yield _check(
        not num_clips,
        "No clip was seen in training, by its samples.",
        f"{num_clips} of the clips were seen in training, by their samples: this is not a score on unseen recordings.",
    )
    # Runs of versions without pre-training lack this key.
    by_audio = metrics.get("seen_as_audio_alone", {"speakers": 0, "clips": 0})
    yield _check(
        not any(by_audio.values()),
        "None of the audio pre-trained the encoder of this model here.",
        f"{by_audio['speakers']} of the speakers and {by_audio['clips']} of the clips pre-trained the encoder of this "
        "model, by audio alone: their labels were not seen, their voices were.",
    )


def _parts(manifest: pa.Table, part: str) -> Iterator[Check]:
    torn = in_several_parts(manifest, "speaker", part=part)
    yield _check(
        not torn,
        f"Speaker-independent: no speaker is in two {part}s.",
        f"Not speaker-independent: these speakers are in more than one {part}: {listed(torn)}.",
    )
    if "audio_digest" in manifest.column_names:
        copied = in_several_parts(manifest, "audio_digest", part=part)
        yield _check(
            not copied,
            f"No recording has an exact copy in another {part}.",
            f"Recordings with an exact copy in another {part}: {len(copied)}.",
        )


def in_several_parts(manifest: pa.Table, column: str, *, part: str = "fold") -> list[str]:
    """The values of a column that are in more than one part (a fold, a split), in order."""
    rows_with_value = manifest.select([column, part]).filter(pc.is_valid(manifest[column]))
    if column == "audio_digest":  # nearly all differ: groups of all of them took 450 bytes for each clip
        rows_with_value = rows_with_value.filter(
            pc.is_in(rows_with_value[column], value_set=repeated(rows_with_value[column]))
        )
    numbers = rows_with_value.group_by(column).aggregate([(part, "count_distinct")])
    several = numbers.filter(pc.greater(numbers[f"{part}_count_distinct"], 1))
    return sorted(several[column].to_pylist())


def _real(run: RunFiles, *, is_pretrained: bool) -> Check:
    is_tiny = run.metrics.get("encoder", {}).get("name") == "tiny"
    is_demo = run.config["data"]["uri"] == "demo"
    made_up = " and ".join(["random weights"] * is_tiny + ["synthetic speakers"] * is_demo)
    return _check(
        not made_up,
        "Real recordings and a pretrained encoder." if is_pretrained else "Real recordings.",
        f"This run used {made_up}: it shows that the job works, not how good a model is.",
    )


def _rejects(run: RunFiles) -> Check:
    num_rejects = run.rejects.num_rows
    num_clips = num_rejects + run.manifest.num_rows
    share = percent_text(num_rejects / max(num_clips, 1))
    text = f"{num_rejects} of {num_clips} clips could not be used ({share})."
    return _check(num_rejects <= 0.01 * num_clips, text if num_rejects else "Every clip could be used.", text)


def _above_chance(headline: Headline) -> Check:
    name, low, chance = headline.metric, (headline.interval or (None,))[0], headline.chance
    if low is None or chance is None:
        reason = "it needs at least five speakers, with clips of every kind"
        why = f" ({headline.why})" if headline.why else ""
        return Check(is_good=False, text=f"The 95% interval of {name} is undefined{why}: {reason}.")
    if headline.is_lower_better:
        high = (headline.interval or (low, low))[1]
        return _check(
            high < chance,
            f"The whole 95% interval of {name} is below {headline.form(chance)}, the score of a model that writes nothing.",
            f"The 95% interval of {name} reaches up to {headline.form(high)}; a model that writes nothing has "
            f"{headline.form(chance)}.",
        )
    return _check(
        low > chance,
        f"The whole 95% interval of {name} is above {headline.form(chance)}, the score of a model that learned nothing.",
        f"The 95% interval of {name} reaches down to {headline.form(low)}; a model that learned nothing scores "
        f"{headline.form(chance)}.",
    )


def _selection(run: TuneRun, headline: Headline) -> Iterator[Check]:
    if "estimate" in run.metrics:
        return
    selection = run.metrics["selection"]
    nested, low = selection["nested"], (headline.interval or (None,))[0]
    if nested is None:
        yield Check(
            is_good=False,
            text=f"The score selected on the other folds is undefined: {why_no_choice(selection)}.",
        )
        return
    cost = f"Selected on the other folds, {percent_text(run.metrics['pooled'][run.metric])} becomes {percent_text(nested)}"
    yield _check(
        low is None or nested >= low,
        f"{cost}, not below the 95% interval.",
        f"{cost}, below the 95% interval: the search has fitted the folds.",
    )


def why_no_choice(selection: JsonObject) -> str:
    """Why no trial could be selected on the other folds."""
    return "fewer than two trials are complete" if selection["num_complete"] < 2 else selection["note"]


def _num_speakers(num_speakers: int) -> Check:
    return _check(
        num_speakers >= 10,
        f"The interval is over {num_speakers} whole speakers, not over clips.",
        f"The interval is over only {counted(num_speakers, 'speakers')} and is itself rough."
        if num_speakers >= MIN_UNITS
        else f"No interval is computed of so few: {counted(num_speakers, 'speakers')}.",
    )


def _recordings(metrics: JsonObject) -> Iterator[Check]:
    """Whether the recordings are wideband and unclipped, and no class has a channel of its own; nothing where unmeasured."""
    recordings = metrics.get("recordings")
    if not recordings or not recordings["num_measured"]:
        return
    channel, clipping = channel_warning(recordings), clipping_warning(recordings)
    yield _check(not channel, "The recordings are wideband: few are telephone speech.", channel)
    yield _check(not clipping, "Few recordings are clipped.", clipping)
    by_class = class_warnings(recordings)
    yield from (Check(is_good=False, text=text) for text in by_class)
    row = recordings["by_class"].get("bandwidth_hz", {})
    if "p" in row and not by_class:
        most = f"{row['difference']:.0f} Hz at most (p {row['p']:.3f})"
        yield Check(
            is_good=True, text=f"No class has a channel of its own, by bandwidth: classes differ by {most}."
        )


def _classes(pooled: JsonObject, *, has_absent: bool) -> Iterator[Check]:
    never, absent = pooled["never_predicted"], pooled["absent"]
    yield _check(not never, "Every class is predicted at least once.", f"Never predicted: {listed(never)}.")
    if has_absent:
        yield _check(
            not absent, "Every class has clips to score.", f"Without clips to score: {listed(absent)}."
        )


def _completeness(metrics: JsonObject) -> Iterator[Check]:
    if metrics["kind"] == "classes":
        yield from _classes(metrics["pooled"], has_absent=True)
        return
    if metrics["kind"] == "transcript":
        yield from _transcripts(metrics)
    undefined = [f"{name} ({why})" for name, why in metrics["pooled"]["undefined"].items()]
    yield _check(not undefined, "Every score is defined.", f"Undefined: {listed(undefined)}.")


def _transcripts(metrics: JsonObject) -> Iterator[Check]:
    """Checks of empty transcripts, of characters that the model cannot write, and of sentences seen in training."""
    pooled, text = metrics["pooled"], metrics.get("text", {})
    num_empty, num_clips = pooled["empty_predictions"], pooled["num_clips"]
    yield _check(
        not num_empty,
        "Something is written for every clip that has text.",
        f"Nothing is written for {num_empty} of {num_clips} clips: the model writes CTC's blank alone there, as all do early in training.",
    )
    if "unknown_characters" in text:
        unknown = text["unknown_characters"]
        yield _check(
            not unknown,
            "Every character of the references can be written.",
            f"Characters of the references that the model cannot write: {listed(list(unknown))}.",
        )
    if "num_seen_sentences" in text:
        num_seen = text["num_seen_sentences"]
        yield _check(
            not num_seen,
            "No sentence that is scored was seen in training.",
            f"{num_seen} of {num_clips} clips have a transcript that was seen in training: this is not a score on new sentences.",
        )


def _same_hits(pooled: JsonObject, predictions: pa.Table) -> Check:
    num_hits = pc.sum(pc.equal(predictions["target"], predictions["predicted"])).as_py() or 0
    counted = f"{num_hits} of {predictions.num_rows} clips right"
    num_right = sum(row[i] for i, row in enumerate(pooled["confusion"]))
    recorded = f"{num_right} of {pooled['num_clips']} clips right"
    return _check(
        counted == recorded,
        f"predictions.parquet agrees with metrics.json: {counted}.",
        f"predictions.parquet has {counted}, metrics.json {recorded}: they are not of the same run.",
    )


def _same_number(metrics: JsonObject, predictions: pa.Table) -> Check:
    num_rows, num_clips = predictions.num_rows, metrics["num_clips"]
    return _check(
        num_rows == num_clips,
        f"predictions.parquet agrees with metrics.json: {counted(num_clips, 'clips')}.",
        f"predictions.parquet has {counted(num_rows, 'clips')}, metrics.json {num_clips}: they are not of the same run.",
    )


def verdict(checks: Sequence[Check]) -> str:
    """How many checks ask for care, in a sentence."""
    num_care = sum(not check.is_good for check in checks)
    if not num_care:
        return f"All {len(checks)} checks passed."
    return f"{num_care} of {len(checks)} checks ask for care:"
