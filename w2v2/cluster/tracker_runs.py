"""One run in MLflow or Weights & Biases, as Ray's integrations start it: begin, log, end."""

import math
import os
import time
import uuid
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from w2v2.cluster.tracked_numbers import Trial
from w2v2.measurements import Points

LIBRARIES = {"mlflow": "mlflow-skinny", "wandb": "wandb"}
"""The smallest distribution of each tracker's client."""
PROJECT = "w2v2"
"""The default experiment or project, where the tracker's environment variables name none."""
QUICK = {
    "MLFLOW_HTTP_REQUEST_MAX_RETRIES": "2",
    "MLFLOW_HTTP_REQUEST_TIMEOUT": "20",
    "MLFLOW_DISABLE_TELEMETRY": "true",
    "WANDB_ERROR_REPORTING": "false",
    "WANDB_SILENT": "true",
}
"""Environment variables that are set where the user has not: a server that is down holds a job up for a minute at most, and
the libraries report nothing to their makers."""


@dataclass(frozen=True, kw_only=True)
class StartedRun:
    """A tracker's run that has been started."""

    place: str
    """The run's id and its place, for the log."""
    continued: bool
    """Whether it is that of an earlier session."""


class MlflowRun:
    """A run of MLflow; every trial of a search is a run below it."""

    def __init__(self) -> None:
        self.ids: dict[str, str] = {}
        """The ids of the run and of the trials' runs, with which another session continues them."""
        self._mlflow: Any = None
        self._client: Any = None

    def begin(
        self, ids: Mapping[str, str], name: str, settings: Mapping[str, str], tags: Mapping[str, str]
    ) -> StartedRun:
        """Start the run, or continue the one with these ids."""
        import mlflow
        from ray.air.integrations.mlflow import setup_mlflow

        continued = bool(ids.get("run")) and _is_kept(mlflow, ids["run"])
        if continued:
            self.ids = dict(ids)
            mlflow.start_run(run_id=ids["run"])  # setup_mlflow takes the run that is active
        experiment = os.environ.get("MLFLOW_EXPERIMENT_NAME", PROJECT)
        self._mlflow = setup_mlflow(
            {} if continued else dict(settings),
            experiment_name=experiment,
            create_experiment_if_not_exists=True,
            run_name=name,
            tags=dict(tags),
        )
        self._client = self._mlflow.MlflowClient()
        self.ids["run"] = self._mlflow.active_run().info.run_id
        for key, value in tags.items():
            self._client.set_tag(self.ids["run"], key, value)
        return StartedRun(
            place=f"mlflow run {self.ids['run']} of experiment {experiment} at {mlflow.get_tracking_uri()}",
            continued=continued,
        )

    def log(self, group: str, points: Points) -> None:
        """Send measurements by step; measurements of a trial go to its own run."""
        from mlflow.entities import Metric

        now_ms, (run_id, prefix) = int(time.time() * 1000), self._place(group)
        metrics = [
            Metric(f"{prefix}{name}", value, now_ms, step)
            for step, values in points
            for name, value in values.items()
            if value is not None and math.isfinite(value)
        ]
        for start in range(0, len(metrics), 1000):  # what one request of MLflow takes
            self._client.log_batch(run_id, metrics=metrics[start : start + 1000])

    def add_trial(self, group: str, trial: Trial) -> None:
        """Send the hyperparameters and the scores of a trial that has ended."""
        from mlflow.entities import Metric, Param

        now_ms, (run_id, _) = int(time.time() * 1000), self._place(group)
        self._client.log_batch(
            run_id,
            metrics=[Metric(name, value, now_ms, 0) for name, value in trial.scores.items()],
            params=[Param(name, str(value)) for name, value in trial.params.items()],
        )
        self._client.set_tag(run_id, "w2v2.state", trial.state)
        self._client.set_terminated(run_id, "FAILED" if trial.state == "FAIL" else "FINISHED")

    def summarize(self, numbers: Mapping[str, float], tags: Mapping[str, str]) -> None:
        """Send the numbers of the whole run."""
        self.log("", [(0, numbers)])
        for key, value in tags.items():
            self._client.set_tag(self.ids["run"], key, value)

    def end(self, status: str) -> None:
        """End the run: FINISHED, FAILED or KILLED."""
        # MLflow's active run belongs to a thread, perhaps another one than the thread that began the run.
        active = self._mlflow.active_run()
        if active and active.info.run_id == self.ids["run"]:
            self._mlflow.end_run(status)
        self._client.set_terminated(self.ids["run"], status)

    def _place(self, group: str) -> tuple[str, str]:
        """The id of the run that has a group's measurements, and the beginning of their names in it."""
        first, _, rest = group.partition("/")
        if not first.startswith("trial-"):
            return self.ids["run"], f"{group}/" if group else ""
        if first not in self.ids:
            parent = self._client.get_run(self.ids["run"])
            made = self._client.create_run(
                parent.info.experiment_id,
                run_name=f"{parent.info.run_name} {first}",
                tags={"mlflow.parentRunId": parent.info.run_id},
            )
            self.ids[first] = made.info.run_id
        return self.ids[first], f"{rest}/" if rest else ""


def _is_kept(mlflow: Any, run_id: str) -> bool:
    """Whether the tracking server has the run, and has not deleted it."""
    try:
        return bool(mlflow.get_run(run_id).info.lifecycle_stage == "active")
    except mlflow.exceptions.MlflowException as error:
        if error.error_code == "RESOURCE_DOES_NOT_EXIST":
            return False
        raise


class WandbRun:
    """A run of Weights & Biases; offline, in ./wandb, unless WANDB_MODE, WANDB_API_KEY or WANDB_BASE_URL is set."""

    def __init__(self) -> None:
        self.ids: dict[str, str] = {}
        self._run: Any = None

    def begin(
        self, ids: Mapping[str, str], name: str, settings: Mapping[str, str], tags: Mapping[str, str]
    ) -> StartedRun:
        """Start the run, or continue the one with these ids."""
        from ray.air.integrations.wandb import setup_wandb

        if not any(os.environ.get(n) for n in ("WANDB_MODE", "WANDB_API_KEY", "WANDB_BASE_URL")):
            os.environ["WANDB_MODE"] = "offline"
        self.ids = {"run": ids.get("run") or uuid.uuid4().hex[:12]}
        project = os.environ.get("WANDB_PROJECT", PROJECT)
        self._run = setup_wandb(
            {**settings, **tags}, trial_id=self.ids["run"], trial_name=name, project=project
        )
        where = "offline" if self._run.offline else self._run.url
        return StartedRun(
            place=f"wandb run {self.ids['run']} of project {project}, {where}", continued=bool(ids.get("run"))
        )

    def log(self, group: str, points: Points) -> None:
        """Send measurements, each with its step as `<group>/step`."""
        for step, values in points:
            finite = {f"{group}/{n}": v for n, v in values.items() if v is not None and math.isfinite(v)}
            self._run.log({**finite, f"{group}/step": step})

    def add_trial(self, group: str, trial: Trial) -> None:
        """Send the hyperparameters and the scores of a trial that has ended."""
        for name, value in {"state": trial.state, **trial.params, **trial.scores}.items():
            self._run.summary[f"{group}/{name}"] = value

    def summarize(self, numbers: Mapping[str, float], tags: Mapping[str, str]) -> None:
        """Send the numbers of the whole run."""
        self._run.config.update(dict(tags), allow_val_change=True)
        self._run.summary.update(dict(numbers))

    def end(self, status: str) -> None:
        """End the run: FINISHED, FAILED or KILLED."""
        self._run.finish(exit_code=0 if status == "FINISHED" else 1)


TrackerRun = MlflowRun | WandbRun
"""A run in a tracker. Every call may raise anything."""


def run_of(tracker: str) -> TrackerRun:
    """The run, not yet begun, of 'mlflow' or 'wandb'."""
    for name, value in QUICK.items():
        os.environ.setdefault(name, value)
    return MlflowRun() if tracker == "mlflow" else WandbRun()
