"""Calls and jobs of BigQuery: retries, the next id of a job, and errors in one sentence each."""

import itertools
import logging
import re
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TypedDict

from google.api_core import exceptions, retry
from google.auth.exceptions import GoogleAuthError
from google.cloud import bigquery
from requests.exceptions import RequestException

from w2v2.errors import UserError
from w2v2.json_types import JsonObject

logger = logging.getLogger(__name__)

REQUEST_S = 60.0
"""Longest wait for one answer, in seconds; the client itself would wait for ever."""
_RETRY_S = 120.0
_MAX_FAILURES = 4

# Reasons, of requests and of jobs, that say "again" and not "never".
_TRANSIENT = {
    "backendError",
    "badGateway",
    "internalError",
    "jobBackendError",
    "jobInternalError",
    "jobRateLimitExceeded",
    "rateLimitExceeded",
    "serviceUnavailable",
}


Job = bigquery.LoadJob | bigquery.QueryJob | bigquery.CopyJob | bigquery.ExtractJob | bigquery.UnknownJob
"""The object that Google's client returns for the id of a job."""


class CallSettings(TypedDict):
    """Keyword arguments of a call of Google's client."""

    retry: retry.Retry
    timeout: float


def calls() -> CallSettings:
    """Keyword arguments of every call: its retries, and the timeout of one answer."""
    return {"retry": retries(), "timeout": REQUEST_S}


def retries(*, lost: bool = False) -> retry.Retry:
    """The retries of one request, two minutes in all; with `lost`, a missing job is looked up again."""

    def again(error: Exception) -> bool:
        if isinstance(error, exceptions.NotFound):
            return lost
        if isinstance(error, exceptions.GoogleAPICallError) and error.errors:
            return _reason(error) in _TRANSIENT
        network = (exceptions.ServerError, exceptions.TooManyRequests, RequestException, ConnectionError)
        return isinstance(error, network)

    return retry.Retry(predicate=again, timeout=30.0 if lost else _RETRY_S)


def run_until(
    client: bigquery.Client, done: Callable[[], bool], start: Callable[[str], Job], *, name: str
) -> None:
    """Run jobs name_0, name_1, ... until done().

    BigQuery runs a job id only once: one that exists is waited for and not started again; one that failed, or that
    an earlier commit of the same parts used, is skipped. start(job_id) inserts a job.

    Raises:
        UserError: a job ended well and it is still not done.
        GoogleAPICallError: a job failed for good, or four times.
    """
    num_failures, ended_well = 0, False
    for attempt in itertools.count():
        if done():
            return
        if ended_well:
            raise UserError(
                f"job {name} ended well but its rows are not there: was the table changed meanwhile?"
            )
        job_id, is_new = f"{name}_{attempt}", True
        try:
            job = start(job_id)
        except exceptions.Conflict:
            # Inserted by an earlier try whose answer was lost, or by a run that was killed: wait for it.
            is_new = False
            job = client.get_job(job_id, retry=retries(lost=True), timeout=REQUEST_S)
        _wait(job)
        if job.error_result:
            logger.warning("job %s failed: %s", job_id, job.error_result.get("message"))
            num_failures += is_new
            if is_new and (num_failures == _MAX_FAILURES or not _is_transient(job.error_result)):
                raise job.exception()
        ended_well = is_new and not job.error_result


def _wait(job: Job) -> None:
    pause_s = 0.5
    while job.state != "DONE":
        time.sleep(pause_s)
        pause_s = min(2 * pause_s, 10.0)
        job.reload(**calls())


def _is_transient(error: JsonObject) -> bool:
    """Whether the job may be tried again: a transient error, or a conflict with another writer, which has no reason of its own."""
    return error.get("reason") in {*_TRANSIENT, "duplicate"} or "concurrent update" in error.get(
        "message", ""
    )


@contextmanager
def in_words(uri: str) -> Iterator[None]:
    """A block that raises an error of Google's client as a UserError about the table."""
    try:
        yield
    except (exceptions.GoogleAPICallError, exceptions.RetryError, GoogleAuthError, RequestException) as error:
        raise UserError(_sentence(uri, error)) from error


def _sentence(uri: str, error: Exception) -> str:
    project, dataset, _ = uri.removeprefix("bq://").rsplit(".", 2)
    words = _words(error)
    again = "its parts are kept, run the same command again"
    match _reason(error):
        case "accessDenied":
            editor, user = "roles/bigquery.dataEditor", "roles/bigquery.jobUser"
            roles = f"{editor} on dataset {dataset} and {user} on project {project}"
            return f"no permission for {uri}: {words}; grant {roles}"
        case "quotaExceeded" | "rateLimitExceeded":
            return f"BigQuery's quota stops {uri}: {words}; {again} later"
        case _ if "different locations" in words or "not found in location" in words:
            return f"{uri} and its parts are in two locations: {words}; use a bucket and a dataset in one"
        case "notFound":
            return f"{uri} was not found: {words}; make the dataset first (bq mk {project}:{dataset})"
        case _ if isinstance(error, GoogleAuthError):
            return f"no Google credentials for {uri}: {words}; run gcloud auth application-default login"
        case _:
            return f"BigQuery could not write {uri}: {words}; {again}"


def _reason(error: BaseException | None) -> str:
    if isinstance(error, exceptions.RetryError):
        return _reason(error.cause)
    errors = getattr(error, "errors", None) or [{}]
    return str(errors[0].get("reason", ""))


def _words(error: BaseException) -> str:
    """Google's message in an error, on one line, without the request in front of it."""
    cause = error.cause if isinstance(error, exceptions.RetryError) else None
    words = getattr(error, "message", "") or str(error)
    line = re.sub(r"^(GET|POST|PUT|DELETE) \S+: ", "", " ".join(words.split()))
    return f"{line} ({_words(cause)})" if cause else line
