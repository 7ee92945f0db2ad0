"""The README.md of a model folder, as the Hugging Face hub reads it: metadata with results, use, scores and limits."""

import json
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from w2v2.json_types import Json, JsonObject
from w2v2.models.model_info import ModelInfo, read_info
from w2v2.models.pretrained_name import local_path
from w2v2.redaction import public_text, public_values
from w2v2.storage import files as storage
from w2v2.storage.seals import parse_json, seal_json
from w2v2.wording import counted

if TYPE_CHECKING:
    from huggingface_hub import EvalResult

_HUB_NAME = re.compile(r"[\w.-]+/[\w.-]+")
_MACRO = {"average": "macro"}
CARD_METRICS: Mapping[str, Mapping[str, tuple[str, str, Mapping[str, Json]]]] = {
    "classes": {
        "uar": ("UAR", "recall", _MACRO),
        "accuracy": ("accuracy", "accuracy", {}),
        "macro_f1": ("macro F1", "f1", _MACRO),
    },
    "multi_label": {
        "macro_auc": ("macro AUC", "roc_auc", _MACRO),
        "weighted_auc": ("AUC weighted by clips", "roc_auc", {"average": "weighted"}),
    },
    "regression": {
        "ccc": ("mean CCC", "ccc", {}),
        "pearson": ("mean Pearson correlation", "pearsonr", {}),
        "r2": ("mean R2", "r_squared", {}),
        "rmse": ("mean RMSE", "mse", {"squared": False}),
    },
    "transcript": {"cer": ("character error rate", "cer", {}), "wer": ("word error rate", "wer", {})},
}
"""By kind of task and key in metrics.json: the metric's name, its id on the hub and the id's arguments."""


@dataclass(frozen=True, kw_only=True)
class CardScore:
    """One line of the card's scores."""

    metric: str
    """Key in metrics.json."""
    value: float | None
    interval: tuple[float, float] | None
    undefined: str = ""
    """Why there is no interval."""
    method: str = ""
    """How a search estimated the score; empty for the score of this model."""


def write_card(uri: str, info: ModelInfo, card: JsonObject, digest: str, *, opened_by: str) -> None:
    """Write README.md into a model folder; opened_by is the class of transformers that gives its outputs, or ''."""
    text = card_text(info, card, digest, opened_by=opened_by)
    storage.write_text(storage.join(storage.expand(uri), "README.md"), text)


def extend_card(uri: str, more: JsonObject) -> None:
    """Add to the card of a saved model, such as its scores, in w2v2.json and README.md; its digest stays."""
    place = storage.join(storage.expand(uri), "w2v2.json")
    about = parse_json(place, storage.read_bytes(place))
    card = about["card"] | public_values(dict(more))
    info, digest = read_info(uri)
    write_card(uri, info, card, digest, opened_by=about.get("opened_by", ""))
    storage.write_text(place, seal_json(about | {"card": card}, indent=2) + "\n")


def card_text(info: ModelInfo, card: JsonObject, digest: str, *, opened_by: str) -> str:
    """The text of README.md: the hub's metadata on top, then what a user needs, without absolute paths.

    card may have `pooled` and `computed_on` (the scores of the test split, as in metrics.json), `estimate` (by the
    search that chose the settings), `corpus` (the name of the data), and other entries, which the JSON at its end
    shows.
    """
    is_text = info.vocabulary is not None
    names = "transcripts" if is_text else ", ".join(info.names)
    details = {name: value for name, value in card.items() if name not in ("pooled", "estimate")}
    blocks = [
        f"# {info.encoder.name} for {names}",
        f"{_kind_text(info, card)} of 16 kHz mono speech or music, digest `{digest}`, made by w2v2.",
        *_scores_section(info, card),
        "## Use",
        *_usage(info, opened_by=opened_by, members=card.get("members", [])),
        "## Limits",
        "\n".join(f"- {limit}" for limit in _limits(info, card)),
        "## How it was made",
        f"```json\n{json.dumps(details, indent=2)}\n```",
    ]
    return public_text(f"---\n{_metadata(info, card)}---\n" + "\n\n".join(blocks) + "\n")


def _kind_text(info: ModelInfo, card: JsonObject) -> str:
    kind = info.kind.replace("_", "-")
    members = card.get("members")
    return f"An ensemble of {len(members)} {kind} models" if members else f"A {kind} model"


def scores_of(info: ModelInfo, card: JsonObject) -> list[CardScore]:
    """First the estimate on new speakers by the search that chose the settings, if there was one, then the scores of the test split."""
    return [*_estimated(card), *_of_test(info, card)]


def _estimated(card: JsonObject) -> Iterator[CardScore]:
    for name, score in card.get("estimate", {}).get("metrics", {}).items():
        yield CardScore(
            metric=name,
            value=score["value"],
            interval=None if score["low"] is None else (score["low"], score["high"]),
            undefined=score["undefined"],
            method=card["estimate"]["name"],
        )


def _of_test(info: ModelInfo, card: JsonObject) -> Iterator[CardScore]:
    if "pooled" not in card:
        return
    pooled = card["pooled"]
    values = pooled["mean"] if info.kind == "regression" else pooled
    within = pooled.get("intervals", {})
    why = within.get("undefined", {})
    within = within.get("mean", {}) if info.kind == "regression" else within
    for name in CARD_METRICS[info.kind]:
        interval = within.get(name)
        yield CardScore(
            metric=name,
            value=values.get(name),
            interval=tuple(interval) if interval else None,
            undefined=why.get(name, ""),
        )


def _metadata(info: ModelInfo, card: JsonObject) -> str:
    """The YAML on top, with model-index where there are scores."""
    from huggingface_hub import ModelCardData  # takes a second to import

    results = list(_results(info, card))
    name = f"{info.encoder.name.rstrip('/').rpartition('/')[2]}-{info.kind.replace('_', '-')}"
    data = ModelCardData(
        library_name="transformers",
        pipeline_tag="automatic-speech-recognition"
        if info.vocabulary is not None
        else "audio-classification",
        tags=["w2v2", "speech"],
        base_model=_base_model(info.encoder.name),
        metrics=sorted({result.metric_type for result in results}) or None,
        model_name=name if results else None,
        eval_results=results or None,
    )
    return f"{data.to_yaml()}\n"


def _base_model(name: str) -> str | None:
    """The encoder's name on the hub, where it is one."""
    return name if _HUB_NAME.fullmatch(name) and not local_path(name).exists() else None


def _results(info: ModelInfo, card: JsonObject) -> "Iterator[EvalResult]":
    """The defined scores as the hub's results; an interval is an argument of its metric."""
    from huggingface_hub import EvalResult

    corpus = str(card.get("corpus", "the data of its training"))
    for score in scores_of(info, card):
        if score.value is None:
            continue
        label, hub_id, args = CARD_METRICS[info.kind][score.metric]
        interval = {"interval_95": list(score.interval)} if score.interval else {}
        yield EvalResult(
            task_type="automatic-speech-recognition"
            if info.vocabulary is not None
            else "audio-classification",
            dataset_name=corpus,
            dataset_type=re.sub(r"[^a-z0-9]+", "-", corpus.lower()).strip("-") or "data",
            dataset_split="cross-validation" if score.method else "test",
            metric_type=hub_id,
            metric_name=f"{label}, {score.method}" if score.method else label,
            metric_value=score.value,
            metric_args={**args, **interval} or None,
        )


def _scores_section(info: ModelInfo, card: JsonObject) -> Iterator[str]:
    scores = scores_of(info, card)
    if not scores:
        return
    yield "## Scores"
    lines = ["| score | value | 95 % interval | of |", "|---|---|---|---|"]
    for score in scores:
        label = CARD_METRICS[info.kind][score.metric][0]
        value = "undefined" if score.value is None else f"{score.value:.3f}"
        why = f"undefined ({score.undefined})" if score.undefined else "undefined"
        interval = f"{score.interval[0]:.3f} to {score.interval[1]:.3f}" if score.interval else why
        of = f"these settings, {score.method}" if score.method else "this model, test split"
        lines.append(f"| {label} | {value} | {interval} | {of} |")
    yield "\n".join(lines)
    if "estimate" in card:
        estimate = card["estimate"]
        yield (
            f"The settings were chosen by a search, whose estimate of them on new speakers is: {estimate['name']}. "
            f"{estimate['how']} {estimate['interval'].rstrip('.')}."
        )
    if "computed_on" in card:
        yield f"The test split's are computed on {card['computed_on'].rstrip('.')}. Intervals are over speakers."


def _usage(info: ModelInfo, *, opened_by: str, members: Sequence[str]) -> Iterator[str]:
    """Commands and code that give the model's outputs."""
    yield "```bash\nw2v2 predict --model path/to/this/folder --data.uri path/to/recordings\n```"
    task = "automatic-speech-recognition" if info.vocabulary is not None else "audio-classification"
    if opened_by:
        yield f"{opened_by} opens this folder and gives the outputs:"
        yield (
            "```python\nimport librosa\nfrom transformers import pipeline\n\n"
            'waveform, _ = librosa.load("recording.wav", sr=16000)\n'
            f'model = pipeline("{task}", "path/to/this/folder")\nprint(model(waveform))\n```'
        )
    elif info.vocabulary is None:
        yield (
            f"load_model gives all {len(members)} models, whose outputs are averaged; each is a model folder of its own in here, such "
            f"as {members[0]}:"
            if members
            else "AutoModel opens this folder and gives the encoder; load_model gives the whole model:"
        )
        yield (
            "```python\nimport librosa\n\nfrom w2v2.inference.prediction import predict_waveforms\n"
            "from w2v2.models.saved_model import load_model\n\n"
            'waveform, _ = librosa.load("recording.wav", sr=16000)\n'
            'saved = load_model("path/to/this/folder")\n'
            "print(dict(zip(saved.info.names, predict_waveforms([waveform], saved)[0].tolist())))\n```"
        )
    else:
        yield "AutoModel opens this folder and gives the encoder; load_model of w2v2.models.saved_model gives the whole model."


def _limits(info: ModelInfo, card: JsonObject) -> Iterator[str]:
    """Sentences on the limits of the scores."""
    data = card.get("data", {})
    if "num_speakers" in data:
        yield (
            f"Made from {counted(data['num_clips'], 'clips')} of {counted(data['num_speakers'], 'speakers')} of "
            f"{card.get('corpus', 'one corpus')}, all splits together. How it does with other languages, microphones, "
            "rooms or ways of speaking is not measured."
        )
    elif not card.get("pooled"):
        yield "It has not been scored."
    audio = info.audio
    yield f"Clips of {audio.min_s:g} to {audio.max_s:g} s; others are rejected, not guessed."
    pooled = card.get("pooled", {})
    for key, text in (
        ("never_predicted", "Never predicted in the test split"),
        ("absent", "Without clips in the test split"),
    ):
        if pooled.get(key):
            yield f"{text}: {', '.join(pooled[key])}."
    if info.kind in ("classes", "multi_label"):
        yield "Probabilities are the model's own; the page of its run says how well they are calibrated."
    if card.get("settings", {}).get("data", {}).get("layout") == "clinic":
        yield "For research: it is no medical device, and nothing here validates a use on patients."
