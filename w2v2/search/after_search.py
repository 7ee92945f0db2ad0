"""What is trained after a search: each fold's choice with new seeds or by a nested search, and a learning curve on fewer speakers."""

from collections.abc import Callable

from w2v2.data.manifest import Manifest
from w2v2.search.final_trainings import FinalTrainings, Train, recorded_final, train_choices
from w2v2.search.finished_search import read_finished
from w2v2.search.learning_curve import CurveTrainings, recorded_curve, train_curve
from w2v2.search.nested import nested_choices
from w2v2.search.study import Study
from w2v2.search.trial import SearchPlan
from w2v2.storage import files as storage


def final_of(
    plan: SearchPlan, study: Study, *, search: Callable[[SearchPlan, Study], None], train: Train
) -> FinalTrainings | None:
    """The trainings after the search, where they are asked for or an earlier session has them; None where no trial is complete."""
    if plan.config.search.nested:
        return train_choices(plan, nested_choices(plan, search=search), train=train)
    finished = read_finished(plan.config, plan.classes, study.study)
    if not finished.complete or plan.config.task.kind == "transcript":
        return None
    if not plan.config.search.replicates:
        return recorded_final(plan, finished.choices())
    return train_choices(plan, finished.choices(), train=train)


def curve_of(
    plan: SearchPlan, study: Study, manifest: Manifest, final: FinalTrainings | None, *, train: Train
) -> CurveTrainings | None:
    """The learning curve, where it is asked for or an earlier session has trained it; None where no trial is complete."""
    asked = plan.config.search.learning_curve
    if not asked and not storage.exists(storage.join(plan.run, "learning_curve.parquet")):
        return None
    finished = read_finished(plan.config, plan.classes, study.study)
    if not finished.complete:
        return None
    choices = final.choices if final else finished.choices()
    if not asked:
        return recorded_curve(plan, manifest.clips, choices)
    return train_curve(plan, manifest.clips, choices, train=train)
