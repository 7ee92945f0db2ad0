"""Canaries: which library changed what of the inner parts that this code uses, reported before anything else breaks.

Each row is something that a library does not promise. Where one fails, look into the file of the last column, and
raise the library's bound in pyproject.toml once it works with the new version.
"""

import importlib
import inspect
import itertools
import platform
import re
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from types import SimpleNamespace

import duckdb
import pytest

from tests.cloud.gcs import FakeGcs, gcs_environment
from w2v2.cluster import ray_internals
from w2v2.config.command_line import parse
from w2v2.config.jsonargparse_messages import plain_words
from w2v2.config.tune_folds import TuneFoldsConfig
from w2v2.errors import UserError
from w2v2.storage import files as storage
from w2v2.tables import duckdb_table


@dataclass(frozen=True)
class Part:
    """An inner part of a library: where it is, and the parameters that it must take."""

    library: str
    path: str
    """module:attribute.attribute"""
    used_in: str
    takes: tuple[str, ...] = ()


GCS = "w2v2/storage/gcs.py"
OPTUNA = "w2v2/search/optuna_internals.py"
RAY = "w2v2/cluster/ray_internals.py"
FAMILIES = "w2v2/models/families.py"
TORCH = "w2v2/models/torch_internals.py"
W2V = "transformers.models.wav2vec2.modeling_wav2vec2"
PARTS = (
    Part("gcsfs", "gcsfs.core:GCSFileSystem._call", GCS, ("method", "path", "json_out")),
    Part("gcsfs", "gcsfs.core:GCSFileSystem._pipe_file", GCS, ("path", "data", "consistency", "mode")),
    Part("gcsfs", "gcsfs.core:GCSFileSystem._location", GCS),
    Part("gcsfs", "gcsfs.core:GCSFileSystem.url", GCS, ("path",)),
    Part("gcsfs", "gcsfs.retry:HttpError", GCS),
    Part("gcsfs", "gcsfs.retry:NonRetryableError", GCS),
    Part("gcsfs", "gcsfs.retry:ChecksumError", GCS),
    Part("gcsfs", "gcsfs.retry:is_retriable", GCS, ("exception",)),
    Part("optuna", "optuna:Trial", OPTUNA, ("study", "trial_id")),
    Part("optuna", "optuna:Trial._trial_id", OPTUNA),
    Part("optuna", "optuna.trial:FrozenTrial._trial_id", OPTUNA),
    Part("optuna", "optuna:Trial.storage", OPTUNA),
    Part("optuna", "optuna.storages:BaseStorage.get_trial", OPTUNA, ("trial_id",)),
    Part("ray", "ray:cloudpickle.load", RAY),
    Part("ray", "ray._private.services:get_node", RAY, ("gcs_address", "node_id")),
    Part("ray", "ray._private.services:start_api_server", RAY, ("include_dashboard",)),
    Part("ray", "ray._private.node:Node.start_monitor", RAY),
    Part("ray", "ray._private.node:Node.start_log_monitor", RAY),
    Part("ray", "ray.tune.experiment:Trial.pickled_error_file", RAY),
    Part("ray", "ray.tune.experiment:Trial.get_error", RAY),
    Part("ray", "ray.tune.experiment:Trial.should_recover", RAY),
    Part("ray", "ray.tune.schedulers:FIFOScheduler.on_trial_result", "w2v2/cluster/search.py", ("tune_controller", "trial", "result")),
    Part("ray", "ray.tune.schedulers:FIFOScheduler.on_trial_error", "w2v2/cluster/search.py", ("tune_controller", "trial")),
    Part("ray", "ray.train:Result.return_value", RAY),
    Part("python", "threading:_shutdown", "w2v2/process_end.py"),
    Part("python", "atexit:_run_exitfuncs", "w2v2/process_end.py"),
    Part("torch", "torch:_foreach_add_", TORCH),
    Part("torch", "torch:_fused_adamw_", TORCH),
    Part("torch", "torch:ops.aten._log_softmax_backward_data", TORCH),
    Part("torch", "torch:_foreach_copy_", TORCH),
    Part("torch", "torch:ops.aten._flash_attention_forward", TORCH),
    Part("torch", "torch:nn.Module._parameters", TORCH),
    Part("torch", "torch:Tensor._version", TORCH),
    Part("transformers", "transformers.masking_utils:create_bidirectional_mask", FAMILIES, ("config", "inputs_embeds", "attention_mask")),
    Part("transformers", f"{W2V}:Wav2Vec2PreTrainedModel._get_feature_vector_attention_mask", FAMILIES, ("feature_vector_length", "attention_mask")),
    Part("transformers", f"{W2V}:Wav2Vec2EncoderLayer.forward", FAMILIES, ("hidden_states", "attention_mask")),
    Part("transformers", "transformers.models.wavlm.modeling_wavlm:WavLMAttention.compute_bias", FAMILIES, ("query_length", "key_length")),
    Part("transformers", "transformers.models.wavlm.modeling_wavlm:WavLMEncoderLayer.forward", FAMILIES, ("hidden_states", "attention_mask", "position_bias")),
)  # fmt: skip


def value_of(part: Part) -> object:
    """The part itself; fails with a sentence where it is gone."""
    module, _, attributes = part.path.partition(":")
    here = f"{part.library} {_version(part.library)}"
    try:
        value = importlib.import_module(module)
        for name in attributes.split("."):
            # Attributes that only instances have are in the class's annotations, or are set by __init__.
            value = getattr(value, name) if hasattr(value, name) else _set_by_init(value, name)
    except (ImportError, AttributeError) as error:
        pytest.fail(f"{here} has no {part.path} any more ({error}); {part.used_in} uses it")
    return value


def _version(library: str) -> str:
    return platform.python_version() if library == "python" else version(library)


def _set_by_init(owner: object, name: str) -> object:
    fields = getattr(owner, "__annotations__", {})
    if name in fields or f"self.{name} " in inspect.getsource(owner):  # type: ignore[arg-type]
        return None
    raise AttributeError(f"{owner} has no {name}")


@pytest.mark.parametrize("part", PARTS, ids=lambda part: part.path.rpartition(".")[2])
def test_inner_parts_of_other_libraries_are_as_they_were(part: Part) -> None:
    value = value_of(part)
    if part.takes:
        parameters = inspect.signature(value).parameters  # type: ignore[arg-type]
        missing = [name for name in part.takes if name not in parameters]
        assert not missing, (
            f"{part.path} of {part.library} {_version(part.library)} takes {list(parameters)}, no longer {missing}; "
            f"{part.used_in} passes them"
        )


TEXTS = (
    ("ray.tune.execution.class_cache", *ray_internals.RUNTIME_ENV["env_vars"]),
    ("ray._private.node", ray_internals.SLOW_START[0]),
    ("ray._private.node", "services.get_node("),
    ("ray._private.node", "} GCS. "),
    ("ray._common.utils", ray_internals.cluster_record().name),
    ("ray.tune.execution.cluster_info", ray_internals.BOOTSTRAP.name),
    ("ray.tune.tune", "TUNE_DISABLE_SIGINT_HANDLER"),
    ("ray.tune.utils.callback", "TUNE_DISABLE_AUTO_CALLBACK_LOGGERS"),
    ("ray.autoscaler._private.kuberay.autoscaling_config", "_derive_autoscaling_config_from_ray_cr"),
    ("ray.autoscaler._private.kuberay.node_provider", "class KubernetesHttpApiClient"),
    ("ray._private.state", "def get_max_resources_from_cluster_config"),
    ("ray.train.constants", "RAY_CHDIR_TO_TRIAL_DIR"),
    ("ray._private.ray_constants", "RAY_ENABLE_UV_RUN_RUNTIME_ENV"),
    ("ray._private.ray_constants", "ENABLE_RAY_CLUSTER"),
)


@pytest.mark.parametrize("module, text", TEXTS, ids=lambda value: value)
def test_ray_still_names_what_we_set_or_look_for(module: str, text: str) -> None:
    source = inspect.getsource(importlib.import_module(module))
    assert text in source, f"ray {version('ray')}: {module} does not name {text!r} any more; {RAY} uses it"


def test_the_head_of_a_cluster_has_its_resource() -> None:
    constants = importlib.import_module("ray._common.constants")
    assert list(ray_internals.ON_HEAD) == [constants.HEAD_NODE_RESOURCE_NAME], f"ray {version('ray')}: {RAY}"


def test_a_canary_says_what_is_gone() -> None:
    gone = Part("optuna", "optuna:Trial.no_such_part", "w2v2/x.py")
    with pytest.raises(pytest.fail.Exception, match=r"^optuna [\d.]+ has no optuna:Trial\.no_such_part any more .*; w2v2/x\.py uses it$"):  # fmt: skip
        value_of(gone)


# -- errors that have no class or code of their own: made by the library, and known by what it says


def test_gcsfs_says_what_is_forbidden(monkeypatch: pytest.MonkeyPatch) -> None:
    where = f"gcsfs {version('gcsfs')}: {GCS}"
    answers = {
        (
            403,
            "Something new",
        ): r"forbids storage\.objects\.get on bucket 'corpus' \(Something new\); check the uri and",
        (
            403,
            "me@here does not have storage.objects.get access",
        ): r": me@here lacks storage\.objects\.get on bucket",
        (400, "Bucket is a requester pays bucket but no user project provided."): "requester pays off",
    }
    with FakeGcs("corpus") as server:
        for name, value in gcs_environment(server).items():
            monkeypatch.setenv(name, value)
        for (status, message), sentence in answers.items():
            server.faults.add(kind="status", status=status, message=message)
            with pytest.raises(storage.RefusedError) as caught:
                storage.read_bytes("gs://corpus/x")
            assert re.search(sentence, str(caught.value)), (
                f"{where} makes this of its message: {caught.value}"
            )


OPEN_IN_DUCKDB = (
    "import duckdb, sys; c = duckdb.connect(sys.argv[1]); print('open', flush=True); sys.stdin.read()"
)


def test_duckdb_says_that_a_file_is_locked(tmp_path: Path) -> None:
    place = tmp_path / "table.db"
    command = [sys.executable, "-c", OPEN_IN_DUCKDB, str(place)]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as holder:
        assert holder.stdout is not None and holder.stdout.readline() == b"open\n"
        with pytest.raises(duckdb.IOException) as caught:
            duckdb.connect(str(place))
        holder.communicate(b"")
    sentence = duckdb_table._sentence(f"duckdb://{place}?table=t", caught.value)
    assert f"is open in process {holder.pid}, and DuckDB has one writer" in sentence, (
        f"duckdb {version('duckdb')}: w2v2/tables/duckdb_table.py makes this of its message: {sentence}"
    )


@pytest.mark.parametrize("kind", ["header", "name", "block", "cut"])
def test_duckdb_says_that_a_file_is_damaged(kind: str, tmp_path: Path) -> None:
    place = tmp_path / "table.db"
    with duckdb.connect(str(place)) as connection:
        connection.execute("CREATE TABLE t AS SELECT range AS x FROM range(100000)")
    body = bytearray(place.read_bytes())
    at = {"header": 5000, "name": 9, "block": 13000, "cut": 0}[kind]
    body[at] ^= 64 if kind != "cut" else 0
    place.write_bytes(body[: len(body) // 2] if kind == "cut" else body)
    with pytest.raises(duckdb.Error) as caught, duckdb.connect(str(place)) as connection:
        connection.sql("SELECT sum(x) FROM t").fetchall()
    sentence = duckdb_table._sentence(f"duckdb://{place}?table=t", caught.value)
    assert "is damaged (" in sentence, (
        f"duckdb {version('duckdb')}: w2v2/tables/duckdb_table.py makes this of its message: {sentence}"
    )


def test_words_in_the_name_of_a_duckdb_file_say_nothing(tmp_path: Path) -> None:
    place = tmp_path / "Could not set lock on a corrupt WAL"
    place.mkdir()
    with pytest.raises(duckdb.IOException) as caught:
        duckdb.connect(str(place))
    assert " cannot be opened: " in duckdb_table._sentence(f"duckdb://{place}?table=t", caught.value)


@pytest.mark.parametrize("late", ["node", "server"])
def test_ray_says_that_it_did_not_start_in_time(late: str, monkeypatch: pytest.MonkeyPatch) -> None:
    from ray._private import node, services
    from ray._private.parameter import RayParams

    def unregistered(*args: object) -> None:
        raise RuntimeError("no such node yet")

    clock = itertools.count(step=20)
    quick = SimpleNamespace(sleep=lambda s: None, monotonic=lambda: next(clock), time=time.time)
    monkeypatch.setattr(node, "time", quick)
    monkeypatch.setattr(services, "get_node", unregistered)
    monkeypatch.setattr(node.Node, "start_ray_processes", lambda self: None)

    def start_servers(self: node.Node) -> None:
        if late == "server":  # one that ended at once, and left no address
            ended = SimpleNamespace(process=SimpleNamespace(poll=lambda: 1))
            self.all_processes["gcs_server"] = [ended]
            (Path(self._logs_dir) / "gcs_server.err").touch()
            self._init_gcs_client()
        self._gcs_address = "127.0.0.1:1"

    monkeypatch.setattr(node.Node, "start_head_processes", start_servers)
    with tempfile.TemporaryDirectory(prefix="ray") as folder, pytest.raises(Exception) as caught:
        node.Node(RayParams(temp_dir=folder), head=True, shutdown_at_exit=False, spawn_reaper=False)
    assert ray_internals.is_slow_start(caught.value), (
        f"ray {version('ray')}: {RAY} does not know {caught.value!r}"
    )


def test_flash_attention_takes_what_is_passed() -> None:
    import torch

    wanted = "query key value cum_seq_q cum_seq_k max_q max_k dropout_p is_causal return_debug_mask".split()  # noqa: SIM905
    arguments = torch.ops.aten._flash_attention_forward.default._schema.arguments
    positional = [argument.name for argument in arguments if not argument.kwarg_only]
    assert positional == wanted, f"torch {version('torch')}: {TORCH} passes {wanted}"


def test_wavlm_keeps_its_position_bias_in_the_first_layer() -> None:
    from transformers import WavLMConfig, WavLMModel

    small = dict(hidden_size=8, num_hidden_layers=2, num_attention_heads=2, intermediate_size=8)
    model = WavLMModel(WavLMConfig(**small, num_conv_pos_embeddings=4, num_conv_pos_embedding_groups=2))
    layers = model.encoder.layers
    assert hasattr(layers[0].attention, "rel_attn_embed"), (
        f"transformers {version('transformers')}: {FAMILIES}"
    )
    assert not hasattr(layers[1].attention, "rel_attn_embed")


def test_torch_multiplies_with_onednn_by_an_operator_of_its_own() -> None:
    import torch

    if not torch.backends.mkldnn.is_available():
        pytest.skip("this torch has no oneDNN")
    where = f"torch {version('torch')}: {TORCH}"
    assert hasattr(torch.ops.mkldnn, "_linear_pointwise"), where
    x, weight, bias = torch.randn(3, 4), torch.randn(2, 4), torch.randn(2)
    product = torch.ops.mkldnn._linear_pointwise(x, weight, bias, "none", [], "")
    torch.testing.assert_close(product, x @ weight.T + bias, msg=lambda text: f"{where}: {text}")


@pytest.mark.parametrize(
    "args, words",
    [
        (("--optim.learning_rate", "fast"), r"^optim\.learning_rate: got fast, wanted a number"),
        (("--seed", "1.5"), r"^seed: got 1\.5, wanted a whole number"),
        (("--encoder.train", "some"), r"^encoder\.train: got some, wanted one of all, "),
        (("--optim.learning_rat", "1"), r"^there is no field optim\.learning_rat, did you mean optim\.learning_rate"),
        (("--search.space", "{optim.eps: {lower: 1}}"), r"there is no field|wanted"),
    ],
)  # fmt: skip
def test_messages_of_jsonargparse_can_be_taken_apart(args: tuple[str, ...], words: str) -> None:
    where = f"jsonargparse {version('jsonargparse')}: w2v2/config/jsonargparse_messages.py"
    with pytest.raises(UserError) as caught:
        parse(TuneFoldsConfig, args)
    assert re.search(words, str(caught.value)), f"{where} makes this of its message: {caught.value}"


def test_a_message_of_unknown_form_is_shown_as_it_is() -> None:
    assert plain_words("something  else\nwent wrong", ["seed"]) == "something else went wrong"
