"""A support vector machine on hand-made features; for each held-out fold the settings are chosen on the other folds."""

import time
import warnings
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from jaxtyping import Float, Int, Shaped

from w2v2.config.baseline import SvmConfig
from w2v2.errors import UserError
from w2v2.evaluation.calibration import best_temperature
from w2v2.json_types import Json
from w2v2.wording import counted, listed

if TYPE_CHECKING:
    from sklearn.pipeline import Pipeline

Parts = list[tuple[Int[np.ndarray, " _"], Int[np.ndarray, " _"]]]
"""For each inner fold the places of its training clips and of its scored clips."""


@dataclass(frozen=True, kw_only=True)
class FoldFit:
    """A machine fitted on the clips outside a fold, and its probabilities for the clips in the fold."""

    fold: int
    c: float
    gamma: float
    """0 is one over the number of features times their variance."""
    inner_uar: float
    """Mean UAR of the chosen settings over the inner folds, each held out from training."""
    temperature: float
    """The temperature that divides the decision values."""
    num_train: int
    held_out: Int[np.ndarray, " clips"]
    """Places of the held-out clips."""
    probabilities: Float[np.ndarray, "clips classes"]
    seconds: float


def fit_svm_on_fold(
    descriptors: Float[np.ndarray, "clips descriptors"],
    target: Int[np.ndarray, " clips"],
    speaker: Shaped[np.ndarray, " clips"],
    fold: Int[np.ndarray, " clips"],
    held_out: int,
    *,
    svm: SvmConfig,
    num_classes: int,
) -> FoldFit:
    """The held-out fold predicted by a model of all other folds.

    C and gamma have the highest mean UAR over inner folds, by speaker, of the other folds' clips; features are
    standardised with statistics of the training clips, within the inner folds too. Probabilities are a softmax
    of the one-vs-rest decision values over a temperature, which is fitted on the inner folds (Guo et al.,
    On calibration of modern neural networks, 2017), so the class with the largest probability is the machine's
    prediction.
    """
    from sklearn.model_selection import GridSearchCV

    started = time.perf_counter()
    train, test = np.flatnonzero(fold != held_out), np.flatnonzero(fold == held_out)
    train_descriptors, labels = descriptors[train], target[train]
    parts = inner_folds(labels, speaker[train], num_folds=svm.num_inner_folds, held_out=held_out)
    grid = {"svc__C": list(svm.c), "svc__gamma": [value or "scale" for value in svm.gamma]}
    search = GridSearchCV(machine(), grid, scoring=_uar, cv=parts, error_score="raise")
    search.fit(train_descriptors, labels)
    inner = [
        (
            rows,
            decisions(
                machine(search.best_params_).fit(train_descriptors[train_rows], labels[train_rows]),
                train_descriptors[rows],
                num_classes,
            ),
        )
        for train_rows, rows in parts
    ]
    temperature = fitted_temperature(
        np.concatenate([values for _, values in inner]), labels[np.concatenate([rows for rows, _ in inner])]
    )
    return FoldFit(
        fold=held_out,
        c=search.best_params_["svc__C"],
        gamma=0.0 if search.best_params_["svc__gamma"] == "scale" else search.best_params_["svc__gamma"],
        inner_uar=float(search.best_score_),
        temperature=temperature,
        num_train=len(train),
        held_out=test,
        probabilities=softmax(
            decisions(search.best_estimator_, descriptors[test], num_classes) / temperature
        ),
        seconds=time.perf_counter() - started,
    )


def machine(settings: Mapping[str, Json] | None = None) -> "Pipeline":
    """Standardisation and an SVM with RBF kernel, both fitted by fit(), with svc__C and svc__gamma as given."""
    from sklearn.pipeline import Pipeline
    from sklearn.preprocessing import StandardScaler
    from sklearn.svm import SVC

    svc = SVC(kernel="rbf", decision_function_shape="ovr", break_ties=True, cache_size=500)
    return Pipeline([("standard", StandardScaler()), ("svc", svc)]).set_params(**(settings or {}))


def inner_folds(
    target: Int[np.ndarray, " clips"],
    speaker: Shaped[np.ndarray, " clips"],
    *,
    num_folds: int,
    held_out: int,
) -> Parts:
    """Folds of the training clips, balanced in classes, with no speaker on both sides.

    Raises UserError for too few speakers or clips for num_folds.
    """
    from sklearn.model_selection import StratifiedGroupKFold

    speakers, most = np.unique(speaker), int(np.bincount(target).max())
    few = ""
    if len(speakers) < num_folds:
        few = f"only {counted(len(speakers), 'speakers')} ({listed(speakers.tolist())})"
    elif most < num_folds:
        few = f"no class with more than {counted(most, 'clips')}"
    if not few:
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", message="The least populated class")
            splitter = StratifiedGroupKFold(num_folds, shuffle=True, random_state=0)
            parts = list(splitter.split(target, target, speaker))
        empty = [test for _, test in parts if len(test) == 0]
        lone = [train for train, _ in parts if len(np.unique(target[train])) < 2]
        if not empty and not lone:
            return parts
        few = "too few speakers of each class"
    raise UserError(
        f"svm.num_inner_folds is {num_folds} but outside fold {held_out} there are {few}: lower --svm.num_inner_folds "
        "or --folds.num_folds, or add speakers"
    )


def decisions(
    fitted: "Pipeline", descriptors: Float[np.ndarray, "clips descriptors"], num_classes: int
) -> Float[np.ndarray, "clips classes"]:
    """One-vs-rest decision values; -inf for a class that was not among the training clips."""
    values = fitted.decision_function(descriptors)
    if values.ndim == 1:  # with two classes scikit-learn returns a single column
        values = np.stack([-values / 2, values / 2], axis=1)
    columns = np.full((len(descriptors), num_classes), -np.inf)
    columns[:, fitted.classes_] = values
    return columns


def fitted_temperature(
    decisions: Float[np.ndarray, "clips classes"], target: Int[np.ndarray, " clips"]
) -> float:
    """The temperature in [0.01, 100] with the lowest mean cross-entropy, over clips whose class has a finite value."""
    rows = np.flatnonzero(np.isfinite(decisions[np.arange(len(target)), target]))

    def loss(temperature: float) -> float:
        likely = softmax(decisions[rows] / temperature)[np.arange(len(rows)), target[rows]]
        return float(-np.log(np.maximum(likely, 1e-12)).mean())

    return best_temperature(loss, low=0.01, high=100)


def softmax(values: Float[np.ndarray, "clips classes"]) -> Float[np.ndarray, "clips classes"]:
    """The softmax of each row."""
    from scipy import special

    return special.softmax(values, axis=1)


def _uar(
    fitted: "Pipeline", descriptors: Float[np.ndarray, "clips descriptors"], target: Int[np.ndarray, " clips"]
) -> float:
    """UAR over the classes that occur in target (scikit-learn's balanced_accuracy_score warns about the others)."""
    predicted = fitted.predict(descriptors)
    return float(np.mean([(predicted[target == name] == name).mean() for name in np.unique(target)]))
