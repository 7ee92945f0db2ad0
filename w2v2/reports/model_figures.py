"""The figures on the page of one model."""

from matplotlib.figure import Figure

from w2v2.evaluation import multi_label
from w2v2.evaluation.scores import columns
from w2v2.json_types import JsonObject
from w2v2.reports.plots import model as model_plots
from w2v2.reports.plots import scores as score_plots
from w2v2.reports.plots.calibration import reliability
from w2v2.reports.plots.transcripts import speaker_error_rates
from w2v2.reports.run_files import ModelRun


def model_figures(run: ModelRun) -> dict[str, Figure]:
    """All figures of the page by file name; one that has nothing to show is left out."""
    figures: dict[str, Figure] = {}
    match run.metrics["kind"]:
        case "classes":
            figures = _class_figures(run.metrics) | _fold_figures(run.metrics)
        case "multi_label":
            figures = _label_figures(run)
        case "transcript":
            interval = run.metrics["pooled"]["intervals"]["cer"]
            figures = {"speakers": speaker_error_rates(run.metrics["by_speaker"], interval=interval)}
        case _:
            figures = _value_figures(run)
    if run.curves.num_rows:
        best = run.metrics.get("best_epoch")
        figures["learning_curves"] = model_plots.learning_curves(
            run.curves, loss=loss_text(run)[0], best_epoch=best
        )
    return figures


def _class_figures(metrics: JsonObject) -> dict[str, Figure]:
    pooled, before = metrics["pooled"], metrics.get("before_remapping")
    figures = {
        "confusion": score_plots.confusion(pooled["confusion"], metrics["classes"]),
        "speakers": score_plots.speaker_scores(
            metrics["by_speaker"],
            metric="uar",
            interval=pooled["intervals"]["uar"],
            chance=metrics["chance_uar"],
        ),
    }
    if metrics.get("calibration", {}).get("bins"):
        figures["reliability"] = reliability(metrics["calibration"])
    if before:
        figures["before"] = score_plots.confusion(before["confusion"], list(before["recall"]))
    return figures


def _fold_figures(metrics: JsonObject) -> dict[str, Figure]:
    if "folds" not in metrics:
        return {}
    folds, interval = metrics["folds"]["uar"], metrics["pooled"]["intervals"]["uar"]
    return {
        "folds": score_plots.fold_scores(folds, metric="uar", interval=interval, chance=metrics["chance_uar"])
    }


def _label_figures(run: ModelRun) -> dict[str, Figure]:
    labels = run.metrics["pooled"]["labels"]
    defined = [name for name, row in labels.items() if row["auc"] is not None]
    if not defined:
        return {}
    defined.sort(key=lambda name: -labels[name]["num_positive"])
    target, predicted = (columns(run.predictions, prefix, defined).T for prefix in ("target", "prob"))
    rates = (multi_label.roc(t, p) for t, p in zip(target, predicted, strict=True))
    return {
        "auc": model_plots.label_scores(run.metrics["pooled"]),
        "roc": model_plots.roc(dict(zip(defined, rates, strict=True))),
    }


def _value_figures(run: ModelRun) -> dict[str, Figure]:
    names, quadrants = run.metrics["names"], run.metrics.get("quadrants")
    target, predicted = (columns(run.predictions, prefix, names) for prefix in ("target", "pred"))
    figures = {
        # The name of a target may be no name of a file.
        f"scatter_{i}": model_plots.scatter(target[:, i], predicted[:, i], name=name)
        for i, name in enumerate(names)
    }
    if len(names) == 2:
        midpoints = list(quadrants["midpoints"].values()) if quadrants else None
        figures["plane"] = model_plots.plane(target, predicted, names, midpoints=midpoints)
    if quadrants:
        figures["quadrants"] = score_plots.confusion(quadrants["confusion"], quadrants["classes"])
    return figures


def loss_text(run: ModelRun) -> tuple[str, str]:
    """The name of the training loss, and notes that explain the curves."""
    task = run.config.get("task", {})
    match run.metrics["kind"], task.get("loss", "auto"):
        case "classes", _:
            return "cross-entropy (nats)", ""
        case "multi_label", "mse":
            return "MSE of probabilities", ""
        case "multi_label", _:
            return "binary cross-entropy (nats)", ""
        case "transcript", _:
            return "CTC loss per character (nats)", ""
        case _, loss:
            if loss == "ccc":
                return "loss", "Training: 1 - CCC and penalties; validation: mean squared error."
            if task.get("variance_penalty") or task.get("correlation_penalty"):
                return "MSE", "Training is with its penalties, validation without."
            return "MSE", ""
