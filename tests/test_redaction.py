"""What opens doors is written nowhere: in log, errors, settings, tables, metrics, pages and model cards; resuming works."""

import io
import logging
import sys
import traceback
import warnings
from dataclasses import dataclass
from pathlib import Path

import pyarrow as pa
import pytest

from w2v2.config import command_line
from w2v2.config.data import DataConfig
from w2v2.config.tune_folds import TuneFoldsConfig
from w2v2.data import manifest
from w2v2.errors import ClipError, Reject, UserError
from w2v2.redaction import RedactingFilter, redacted, redacted_values, redacting
from w2v2.reports.blocks import Paragraph, Section
from w2v2.reports.page import page_html
from w2v2.storage import run_directory

SECRET = "5ec7e7Wq1"
SPELLINGS = (
    "https://me:{}@host/a.wav",
    "https://{}@host/a.wav",
    "HTTPS://host/a.wav?x={}",
    "https://host/a.wav?X-Goog-Credential=me&X-Goog-Signature={}&x=1",
    "https://host/a.wav#access_token={}",
    "http:\\/\\/me:{}@host\\/a",
    "s3://key:{}@bucket/a",
    "postgresql+psycopg://me:{}@db:5432/x",
    "gs://bucket/a.wav?X-Goog-Signature={}",
    "/data/a.wav?sv=2020-01-01&sig={}",
    "me:{}@host.example.org/path",
    "access_token={}",
    "HF_TOKEN={} python",
    "api_key='{}'",
    "AWS_SECRET_ACCESS_KEY={}",
    "next%3Ftoken%3D{}%26x",
    '{{"password": "{}"}}',
    "{{'Authorization': 'Bearer {}'}}",
    "Authorization: Bearer {}",
    "Proxy-Authorization: Basic bWU6{}==",
    "hf_{}AbCdEfGhIjKl",
    "ya29.{}-AbCdEfGh",
    "ghp_{}AbCdEfGhIjKlMnOp",
    "eyJhbGciOiJSUzI1.eyJ{}.c2ln",
)


@pytest.mark.parametrize("spelling", SPELLINGS)
def test_no_spelling_shows_it(spelling: str) -> None:
    text = f"cannot read {spelling.format(SECRET)}"
    shown = redacted(text)
    assert SECRET not in shown and "***" in shown and shown.startswith("cannot read ")
    assert redacted(shown) == shown
    assert SECRET not in str(UserError(text))
    assert SECRET not in Reject(kind="missing", detail=text).reason
    assert SECRET not in str(ClipError("missing", text))


@pytest.mark.parametrize(
    "text",
    [
        "gs://bucket/a?b#c.wav", "duckdb:///f.db?table=a", "a.wav?x=1", "file:///a/b@c.wav", "bq://p.d.t", "c.wav#t=0.5,inf",
        "num_tokens=5, optim.learning_rate=1e-5", "it has a password: save it without one", "a@b.org", "12:30", "token: x",
        "key=value", "author=me", "wav2vec2-base, Basic training of three", "https://host:8080/a/b.wav", "C:/a/b.wav",
        '{"pad_id": "0"}', "design=1", "the signature of f(a=1)",
    ],
)  # fmt: skip
def test_what_is_no_secret_stays(text: str) -> None:
    assert redacted(text) == text


def test_values_in_lists_and_dicts() -> None:
    value = {"a": ["https://h/x?t=1", 2], "b": {"c": None}}
    assert redacted_values(value) == {"a": ["https://h/x?***", 2], "b": {"c": None}}


def test_a_log_record_and_its_traceback() -> None:
    stream = io.StringIO()
    handler = logging.StreamHandler(stream)
    handler.addFilter(RedactingFilter())
    logger = logging.getLogger("test_redaction")
    logger.addHandler(handler)
    logger.propagate = False
    try:
        raise RuntimeError(f"GET https://host/a?sig={SECRET} failed")
    except RuntimeError:
        logger.exception("reading %s", f"https://host/b?sig={SECRET}")
    assert SECRET not in stream.getvalue()
    assert (
        "reading https://host/b?***" in stream.getvalue()
        and "RuntimeError: GET https://host/a?***" in stream.getvalue()
    )


class ClientError(Exception):
    """An error whose text is in an attribute, as in Google's clients."""

    def __init__(self, message: str) -> None:
        super().__init__(message)
        self.message, self.code = message, 403

    def __str__(self) -> str:
        return f"{self.code} {self.message}"


def test_a_worker_writes_none_to_logs_of_others(caplog: pytest.LogCaptureFixture) -> None:
    place = f"https://me:{SECRET}@host/a"
    shown: list[str] = []
    with (
        warnings.catch_warnings(),
        pytest.raises(RuntimeError, match=r"cannot read https://\*\*\*@host/a") as failure,
    ):
        warnings.simplefilter("always")
        warnings.showwarning = lambda message, *_: shown.append(str(message))
        with redacting():
            logging.getLogger("another.library").warning("GET %s", place)
            warnings.warn(place, stacklevel=1)
            try:
                try:
                    Path(f"/nowhere/token={SECRET}").read_bytes()
                except OSError as error:
                    raise ClientError(f"GET {place}") from error
            except ClientError:
                raise RuntimeError(f"cannot read {place}", 7) from None
    text = "".join(traceback.format_exception(failure.value))
    assert SECRET not in text + caplog.text and shown == ["https://***@host/a"]
    assert failure.value.args[1] == 7
    client = failure.value.__context__
    assert isinstance(client, ClientError) and str(client) == "403 GET https://***@host/a"
    assert isinstance(client.__cause__, OSError) and SECRET not in str(client.__cause__)
    logging.getLogger("another.library").warning("after the block: %s", place)
    assert SECRET in caplog.text


@dataclass(frozen=True)
class Config:
    seed: int = 0


def test_an_error_of_a_client_library_in_a_traceback(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(sys, "excepthook", sys.excepthook)  # and give it back

    def main(config: Config) -> None:
        raise ConnectionError(f"HTTPSConnectionPool(host='h'): /o/oauth?access_token={SECRET}")

    try:
        with pytest.raises(ConnectionError) as failure:
            command_line.run_job(main, Config, [])
    finally:
        logging.getLogger("w2v2").setLevel(logging.NOTSET)  # for the tests after this one
    sys.excepthook(failure.type, failure.value, failure.tb)
    err = capsys.readouterr().err
    assert "ConnectionError: HTTPSConnectionPool" in err and "access_token=***" in err and SECRET not in err


def signed(signature: str) -> str:
    return f"gs://bucket/clips.csv?X-Goog-Signature={signature}"


def test_a_run_whose_settings_are_redacted_resumes(tmp_path: Path) -> None:
    run = tmp_path / "run"
    clips = pa.table(
        {
            "clip_id": ["a", "b"],
            "uri": [signed(SECRET), "b.wav"],
            "speaker": ["s", f"token={SECRET}"],
            "label": ["x", None],
        }
    )

    def config(signature: str, seed: int = 0) -> TuneFoldsConfig:
        return TuneFoldsConfig(run=str(run), data=DataConfig(uri=signed(signature)), seed=seed)

    assert run_directory.open_or_continue(config(SECRET)) is False
    run_directory.keep_manifest(str(run), clips, clips.select([]))
    run_directory.write_json(str(run), "metrics", {"data": {"uri": signed(SECRET)}})
    for signature in (SECRET, f"{SECRET}renewed"):
        assert run_directory.open_or_continue(config(signature)) is True
    with pytest.raises(UserError, match="seed = 0, now it is 1"):
        run_directory.open_or_continue(config(SECRET, seed=1))
    assert run_directory.read_table(str(run), "manifest")["uri"].to_pylist() == [
        "gs://bucket/clips.csv?X-Goog-Signature=***",
        "b.wav",
    ]
    run_directory.keep_manifest(str(run), clips, clips.select([]))  # the same clips as before
    files = [path for path in run.rglob("*") if path.is_file()]
    assert {path.name for path in files} >= {
        "config.yaml",
        "manifest.parquet",
        "rejects.parquet",
        "metrics.json",
    }
    assert not [path for path in files if SECRET.encode() in path.read_bytes()]


def test_extra_columns_are_redacted(tmp_path: Path) -> None:
    (tmp_path / "t.csv").write_text(
        f"uri,source\na.wav,https://me:{SECRET}@host/x?{SECRET}\ns3://k:{SECRET}@b/c.wav,x\n"
    )
    corpus = manifest.read(DataConfig(uri=str(tmp_path / "t.csv")), task="none", extra_columns=("source",))
    assert corpus.clips["source"].to_pylist() == ["https://***@host/x?***"]
    assert corpus.rejects["uri"].to_pylist() == ["s3://***@b/c.wav"]
    assert SECRET not in f"{corpus.clips.to_pylist()}{corpus.rejects.to_pylist()}"
    lost = manifest.with_rejects(
        corpus, [("a.wav", Reject(kind="missing", detail=f"GET https://h/?{SECRET}"))]
    )
    assert SECRET not in f"{lost.rejects.to_pylist()}"


def test_a_page(tmp_path: Path) -> None:
    from w2v2.reports.page import write_page

    section = Section(heading=signed(SECRET), blocks=[Paragraph(text=f"me:{SECRET}@h.org")])
    write_page(str(tmp_path), f"https://h/?x={SECRET}", [section], kicker="", figures={})
    assert SECRET in page_html(SECRET, [], kicker="") and SECRET not in (tmp_path / "report.html").read_text()


def test_blocks_that_overlap_are_all_redacted_and_leave_nothing(caplog):
    """As those of an encoder's threads, of which the first to begin is often the first to end."""
    shown: list[str] = []
    with caplog.at_level("WARNING"), warnings.catch_warnings():
        warnings.simplefilter("always")
        warnings.showwarning = lambda message, *_: shown.append(str(message))
        before = logging.getLogRecordFactory(), warnings.showwarning
        for _ in range(3):
            first, second = redacting(), redacting()
            first.__enter__()
            second.__enter__()
            first.__exit__(None, None, None)
            logging.getLogger("library").warning("api_key=%s", SECRET)
            warnings.warn(f"api_key={SECRET}", stacklevel=1)
            second.__exit__(None, None, None)
            assert (logging.getLogRecordFactory(), warnings.showwarning) == before
    assert shown == ["api_key=***"] * 3
    assert len(caplog.records) == 3 and SECRET not in caplog.text
