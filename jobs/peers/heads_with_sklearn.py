#!/usr/bin/env python
"""A search of classifiers on vectors by scikit-learn, folds as they are given: a peer of `w2v2 benchmark vectors`.

    jobs/peers/heads_with_sklearn.py vectors.npz scores.json --kind mlp --num_epochs 20 --batch_size 8 --num_cpus 2

mlp is one layer trained by Adam, with the learning rate and weight decay of each trial, the former constant and the latter
as L2; logistic tries as many strengths of its regularisation.
"""

import argparse
import json
import warnings
from pathlib import Path

import numpy as np
from sklearn.exceptions import ConvergenceWarning
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import GridSearchCV, PredefinedSplit
from sklearn.neural_network import MLPClassifier
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler


def main() -> None:
    """Write the mean balanced accuracy over the folds of each trial."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    for name in ("vectors", "output"):
        parser.add_argument(name)
    parser.add_argument("--kind", choices=("mlp", "logistic"), default="mlp")
    for name, default in (("num_epochs", 20), ("batch_size", 8), ("num_cpus", 2)):
        parser.add_argument(f"--{name}", type=int, default=default)
    arguments = parser.parse_args()
    made = np.load(arguments.vectors)
    pairs = zip(made["learning_rates"], made["weight_decays"], strict=True)
    if arguments.kind == "mlp":
        classifier = MLPClassifier((), batch_size=arguments.batch_size, max_iter=arguments.num_epochs, tol=0.0, random_state=0)  # fmt: skip
        trials = [
            {"mlpclassifier__learning_rate_init": [rate], "mlpclassifier__alpha": [decay]}
            for rate, decay in pairs
        ]
    else:
        classifier = LogisticRegression(max_iter=1000)
        strengths = np.logspace(-4, 4, len(made["learning_rates"]))
        trials = [{"logisticregression__C": [strength]} for strength in strengths]
    search = GridSearchCV(
        make_pipeline(StandardScaler(), classifier),
        trials,
        scoring="balanced_accuracy",
        cv=PredefinedSplit(made["folds"]),
        n_jobs=arguments.num_cpus,
        refit=False,
    )
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)  # which so many epochs were asked for
        search.fit(made["vectors"], made["targets"])
    scores = search.cv_results_["mean_test_score"].tolist()
    Path(arguments.output).write_text(json.dumps({"scores": scores}))


if __name__ == "__main__":
    main()
