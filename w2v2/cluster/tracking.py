"""A job's run in an experiment tracker (--track), through Ray's integrations of MLflow and Weights & Biases.

The tracker's run begins with the first measurement, so that a job that is refused before that, such as one with other
settings than its run directory has, leaves no trace there. A tracker cannot stop a job: a call that fails is logged as
a warning, and after NUM_IN_A_ROW failures in a row no more calls are made. A file of the run directory that cannot be
read or written is also a warning, and its content is not sent. Nothing leaves the machine unless the tracker's own
environment variables say so.
"""

import functools
import importlib.util
import json
import logging
from collections.abc import Callable
from typing import Any, TypeVar

from w2v2.cluster.tracked_numbers import curves_of, data_digest, flat_settings, headline, trials_of
from w2v2.cluster.tracker_runs import LIBRARIES, TrackerRun, run_of
from w2v2.config.command_line import tree
from w2v2.config.job import TrackedJobConfig
from w2v2.errors import UserError
from w2v2.json_types import Json, JsonObject
from w2v2.machine import commit
from w2v2.measurements import Points, followed_by, unfollowed
from w2v2.redaction import redacted
from w2v2.storage import files as storage
from w2v2.storage import run_directory
from w2v2.versions import W2V2

logger = logging.getLogger(__name__)

FILE = "tracker.json"
NUM_IN_A_ROW = 3

C = TypeVar("C", bound=TrackedJobConfig)
R = TypeVar("R")


def tracked(main: Callable[[C], dict[str, Json]]) -> Callable[[C], dict[str, Json]]:
    """The job's main function, which then reports to the tracker that config.track names; --plan reports nothing.

    Raises UserError before anything starts where the tracker's library is not installed.
    """

    @functools.wraps(main)
    def following(config: C) -> dict[str, Json]:
        if config.track == "none" or config.plan:
            # A model that a job trains first on the original classes does not belong to the job's run in a tracker.
            with unfollowed():
                return main(config)
        check_installed(config.track)
        session = Session(config)
        try:
            with followed_by(session.log):
                metrics = main(config)
        except BaseException as error:
            session.end("KILLED" if isinstance(error, KeyboardInterrupt) else "FAILED")
            raise
        session.finish(metrics)
        return metrics

    return following


def check_installed(tracker: str) -> None:
    """Raises UserError where the library of a tracker is missing."""
    if not importlib.util.find_spec(tracker):
        raise UserError(
            f"track is {tracker}, and the library {LIBRARIES[tracker]} is not installed: pip install -e '.[{tracker}]'"
        )


class Session:
    """One session of a command in the tracker; `<run>/tracker.json` has the run's id and what was sent, for the next one."""

    def __init__(self, config: TrackedJobConfig) -> None:
        self._config = config
        self._run: TrackerRun = run_of(config.track)
        self._uri = storage.join(storage.expand(config.run), FILE)
        self._sent: dict[str, int] = {}
        """The last step that was sent of each group of measurements."""
        self._has_begun = self._open = False
        self._in_a_row = 0
        self._is_unkept = False
        self.num_calls = self.num_failed = 0

    def _begin(self) -> None:
        """Start the tracker's run, or continue the run of an earlier session of this run directory; once a session."""
        if self._has_begun:
            return
        self._has_begun = True
        stored = self._in_run_directory("beginning a run", lambda: (self._read(), self._settings()))
        if stored is None:  # another run for the same directory would not be its continuation
            return
        kept, settings = stored
        self._sent = dict(kept.get("sent", {}))
        tags = {"w2v2.job": type(self._config).__name__.removesuffix("Config"), "w2v2.version": W2V2}
        tags |= {"w2v2.run": redacted(storage.expand(self._config.run))}
        tags |= {"w2v2.commit": code} if (code := commit()) else {}
        name = storage.expand(self._config.run).rstrip("/").rpartition("/")[2]
        started = self._call(
            "the start of its run", self._run.begin, kept.get("ids", {}), name, settings, tags
        )
        self._open = started is not None
        if started is not None:
            if not started.continued:
                self._sent = {}
            self._keep()
            logger.info("tracking: %s", redacted(started.place))

    def _settings(self) -> dict[str, str]:
        """The settings of the run directory, where open settings, such as the learning rate, are filled in."""
        try:
            return flat_settings(run_directory.read_settings(storage.expand(self._config.run)))
        except storage.NotFoundError:
            return flat_settings(tree(self._config))

    def log(self, group: str, points: Points) -> None:
        """Send the measurements of a group, as `measurements.measured` gives them, that were not sent before."""
        self._begin()
        new = [(step, values) for step, values in points if step > self._sent.get(group, -1)]
        if new and self._open and self._call(f"sending {group}", self._run.log, group, new):
            self._sent[group] = new[-1][0]
            self._keep()

    def finish(self, metrics: dict[str, Json]) -> None:
        """Send the missing points of the curves, each trial's settings and score, and the numbers of metrics.json; then end the run."""
        self._begin()
        run = storage.expand(self._config.run)
        for group, points in self._in_run_directory("sending curves", lambda: list(curves_of(run))) or ():
            self.log(group, points)
        if self._open:
            for group, trial in self._in_run_directory("sending trials", lambda: list(trials_of(run))) or ():
                self._call(f"sending {group}", self._run.add_trial, group, trial)
            digest = self._in_run_directory("sending the digest of the data", lambda: data_digest(run))
            tags = {} if digest is None else {"w2v2.data_digest": digest}
            self._call("sending the scores", self._run.summarize, headline(metrics), tags)
        self.end("FINISHED")

    def end(self, status: str) -> None:
        """End the session in the tracker."""
        if self._open:
            self._call("the end of its run", self._run.end, status)
            self._keep()
        if self.num_failed:
            logger.warning(
                "tracking: %d of %d calls of %s failed; give the same command again to send what it lacks",
                self.num_failed,
                self.num_calls,
                self._config.track,
            )

    def _call(self, what: str, call: Callable[..., Any], *args: Any) -> Any:
        """The result of the call, True in place of None; None where it failed or was not made."""
        if self._in_a_row >= NUM_IN_A_ROW:
            return None
        self.num_calls += 1
        try:
            value = call(*args)
        except Exception as error:  # whatever a tracker raises must not stop the job
            self.num_failed += 1
            self._in_a_row += 1
            why = redacted(" ".join(str(error).split())[:200]) or type(error).__name__
            logger.warning("tracking: %s: %s failed (%s); the job continues", self._config.track, what, why)
            if self._in_a_row == NUM_IN_A_ROW:
                logger.warning("tracking: %d failures in a row: nothing more is sent", NUM_IN_A_ROW)
            return None
        self._in_a_row = 0
        return True if value is None else value

    def _in_run_directory(self, what: str, work: Callable[[], R]) -> R | None:
        """The result of work with files of the run directory; None, with a warning, where a file cannot be read or written."""
        try:
            return work()
        except storage.StorageError as error:
            logger.warning(
                "tracking: %s: %s is left out (%s); the job continues, and the same command again sends what %s lacks",
                self._config.track,
                what,
                error,
                self._config.track,
            )
            return None

    def _read(self) -> JsonObject:
        """The part of tracker.json for this tracker; empty where there is none."""
        try:
            text = storage.read_text(self._uri)
        except (storage.NotFoundError, storage.DamagedError):
            return {}
        try:
            kept = json.loads(text).get(self._config.track, {})
        except (ValueError, AttributeError):
            return {}
        return kept if isinstance(kept, dict) else {}

    def _keep(self) -> None:
        kept = {self._config.track: {"ids": self._run.ids, "sent": self._sent}}
        text = json.dumps(kept, indent=1) + "\n"
        try:
            storage.write_text(self._uri, text)
        except storage.StorageError as error:
            if not self._is_unkept:
                logger.warning(
                    "tracking: %s: %s cannot be written (%s); the job continues, but the same command again may begin another run",
                    self._config.track,
                    FILE,
                    error,
                )
            self._is_unkept = True
