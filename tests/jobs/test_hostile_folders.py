"""Nothing of the folder where a job is started, nor of a model's folder, is run; a local Ray is not for others."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from w2v2.cluster.local_ray import child_processes, end_children
from w2v2.config.model import EncoderConfig
from w2v2.errors import UserError
from w2v2.models.pretrained import load_encoder, tiny_config

POISON = "import os\nopen(os.environ['POISONED'], 'a').write(__file__)\nraise SystemExit('poisoned')\n"
LISTENERS = """
import os, sys
sys.path.insert(0, {root!r})
from w2v2.cluster import connection
connection.start()
task = connection.task(lambda: __import__("numpy").__file__, cpus=1, gpus=0)
print("worker:", connection.get(task.remote()))
import psutil
for process in psutil.Process().children(recursive=True):
    for socket in process.net_connections(kind="inet"):
        if socket.status == "LISTEN":
            print("listens:", process.name(), socket.laddr.ip)
"""


@pytest.mark.slow
def test_a_numpy_in_the_start_folder_is_not_imported_and_ray_listens_on_loopback(tmp_path: Path) -> None:
    hostile = tmp_path / "data"
    hostile.mkdir()
    for name in ("numpy", "sitecustomize", "yaml", "torch", "pyarrow", "w2v2"):
        (hostile / f"{name}.py").write_text(POISON)
    script = tmp_path / "job" / "job.py"
    script.parent.mkdir()
    script.write_text(LISTENERS.format(root=str(Path(__file__).parents[2])))
    environment = os.environ | {"POISONED": str(tmp_path / "ran"), "RAY_ADDRESS": "local"}
    done = subprocess.run(
        [sys.executable, str(script)],
        cwd=hostile,
        env=environment,
        capture_output=True,
        text=True,
        timeout=400,
    )
    assert done.returncode == 0, done.stderr
    assert not (tmp_path / "ran").exists()
    assert "site-packages/numpy" in done.stdout
    listeners = [line.split()[-1] for line in done.stdout.splitlines() if line.startswith("listens:")]
    assert listeners and {ip.removeprefix("::ffff:") for ip in listeners} == {"127.0.0.1"}


def model_folder(folder: Path, **changes: object) -> str:
    from transformers import Wav2Vec2Model

    config = tiny_config()
    Wav2Vec2Model(config).save_pretrained(folder)
    path = folder / "config.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | changes))
    return str(folder)


def load(name: str) -> object:
    return load_encoder(EncoderConfig(name=name), seed=0)


def test_code_in_a_model_folder_is_not_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("POISONED", str(tmp_path / "ran"))
    auto_map = {"AutoConfig": "evil.Evil", "AutoModel": "evil.Evil"}
    for kind in ("wav2vec2", "evil"):
        folder = model_folder(tmp_path / kind, auto_map=auto_map, model_type=kind)
        (Path(folder) / "evil.py").write_text(POISON)
        if kind == "evil":
            with pytest.raises(
                UserError,
                match=r"its model_type evil needs Python code from its repository .*wanted a model whose model_type is",
            ):
                load(folder)
        else:
            load(folder)
    assert not (tmp_path / "ran").exists()


class _Evil:
    def __init__(self, path: str) -> None:
        self.path = path

    def __reduce__(self) -> tuple:
        return (open, (self.path, "w"))


def test_pickled_weights_are_a_sentence(tmp_path: Path) -> None:
    folder = Path(model_folder(tmp_path / "model"))
    (folder / "model.safetensors").unlink()
    torch.save({"weight": _Evil(str(tmp_path / "ran"))}, folder / "pytorch_model.bin")
    with pytest.raises(UserError, match=r"encoder.name .*: transformers cannot open it"):
        load(str(folder))
    assert not (tmp_path / "ran").exists()


BROKEN = {
    "config.json": [
        "",
        "{",
        "[]",
        "null",
        '{"model_type": 3}',
        '{"model_type": "wav2vec2", "hidden_size": "x"}',
    ],
    "preprocessor_config.json": ["", "{", "[1]", '{"sampling_rate": "fast"}'],
    "model.safetensors": ["", "version https://git-lfs.github.com/spec/v1\noid sha256:00\nsize 380\n"],
}


@pytest.mark.parametrize(
    ("name", "content"), [(name, text) for name, all_ in BROKEN.items() for text in all_]
)
def test_a_broken_model_folder_is_a_sentence(tmp_path: Path, name: str, content: str) -> None:
    folder = Path(model_folder(tmp_path / "model"))
    (folder / name).write_text(content)
    with pytest.raises(UserError, match=r"^encoder.name '.*model'[: ]"):
        load(str(folder))


def test_what_would_be_computed_otherwise_than_by_transformers_is_refused(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="add_adapter: true"):
        load(model_folder(tmp_path / "adapter", add_adapter=True))
    folder = Path(model_folder(tmp_path / "rate"))
    (folder / "preprocessor_config.json").write_text(
        json.dumps({"sampling_rate": 8000, "do_normalize": True})
    )
    with pytest.raises(UserError, match=r"wants audio of 8000 Hz .* and audio is 16000 Hz here"):
        load(str(folder))


def test_what_a_ray_that_did_not_start_has_left_is_ended() -> None:
    earlier = child_processes()
    process = subprocess.Popen(["sleep", "100"])
    assert child_processes() - earlier == {process.pid}
    end_children(earlier)
    assert process.wait(timeout=10) < 0


def test_a_family_that_transformers_lacks_is_named_with_the_supported_ones(tmp_path: Path) -> None:
    folder = model_folder(tmp_path / "model", model_type="data2vec2")
    with pytest.raises(
        UserError,
        match=r"its model_type data2vec2 is unknown to transformers [\d.]+; wanted a model whose model_type is one of "
        r"wav2vec2, hubert, .*data2vec-audio.*sew",
    ):
        load(folder)
