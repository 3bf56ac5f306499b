"""Ray starts the processes: a real, small cluster on this machine. Takes about a minute, most of it Ray's start."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path

import pytest
from tests.support.shapes import shapes

from clerestory.core.errors import ClerestoryError, MissingExtra
from clerestory.data.shards import write_shards
from clerestory.stages.train import TrainConfig
from clerestory.stages.train.distributed import ray
from clerestory.store import Store, open_store

ROOT = Path(__file__).resolve().parents[2]


@pytest.mark.skipif(find_spec("ray") is None, reason="Ray is not installed")
def test_two_ray_workers_train_from_shards(tmp_path: Path) -> None:
    write_shards(shapes(), tmp_path / "shards", "parquet", 4000)
    toml = 'preset = "tiny"\nsteps = 4\nbatch_size = 16\nthreads = 1\n'
    (tmp_path / "tiny.toml").write_text(toml, encoding="utf-8")
    train = ["train", "--data", str(tmp_path / "shards"), "--config", str(tmp_path / "tiny.toml"), "--ray", "2"]
    env = os.environ | {"OMP_NUM_THREADS": "1", "PYTHONPATH": f"{ROOT / 'src'}:{ROOT}"}
    env.pop("RAY_ADDRESS", None)
    command = [sys.executable, "-m", "clerestory.cli.main", *train, "--home", str(tmp_path / "home"), "--json"]
    done = subprocess.run(command, env=env, capture_output=True, text=True, timeout=500, check=False)
    assert done.returncode == 0, done.stderr[-3000:]
    result = json.loads(done.stdout[done.stdout.index("{\n") :])
    assert result["facts"]["processes"] == 2
    assert open_store(tmp_path / "home").model_folder(result["model"])


def test_without_ray_the_error_names_the_package_to_install(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "ray", None)
    with pytest.raises(MissingExtra, match="ray"):
        ray.train_on_ray(lambda store: shapes(), TrainConfig(), store, 2)


def test_a_workers_own_error_is_raised() -> None:
    own_error = ClerestoryError("the disk is full", "make room")
    failed = RuntimeError("Training failed due to worker errors:\n…\nvalue")
    assert "value" in ray._translate_error(failed).message
    vars(failed)["worker_failures"] = {0: ValueError("x"), 1: own_error}
    assert ray._translate_error(failed) is own_error
