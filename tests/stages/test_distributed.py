"""Several real processes on the CPU are equivalent to one; torchrun starts those of the command line."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest
import torch
from tests.stages.distributed_worker import exchange, steps
from tests.support.forked import ForkedProcess, start_command
from tests.support.ranks import free_port, rank_variables, run_ranks
from tests.support.shapes import shapes

from clerestory.core.errors import ConfigError
from clerestory.data.shards import write_shards
from clerestory.stages.train import TrainConfig
from clerestory.stages.train.distributed import SINGLE_PROCESS, Ranks, current_engine
from clerestory.store import open_store

ROOT = Path(__file__).resolve().parents[2]
LIMIT = 300
CLERESTORY = ["-m", "clerestory.cli.main"]


def environment(**more: str) -> dict[str, str]:
    return (
        os.environ | {"OMP_NUM_THREADS": "1", "PYTHONPATH": f"{ROOT / 'src'}:{ROOT}", "CUDA_VISIBLE_DEVICES": ""} | more
    )


def torchrun(processes: int, *arguments: str) -> subprocess.CompletedProcess[str]:
    """Run ``torchrun --standalone --nproc-per-node N``."""
    command = [sys.executable, "-m", "torch.distributed.run", "--standalone", f"--nproc-per-node={processes}"]
    done = subprocess.run(
        [*command, *arguments], env=environment(), capture_output=True, text=True, timeout=LIMIT, check=False
    )
    assert done.returncode == 0, done.stderr[-4000:]
    return done


def saved_state(folder: Path) -> dict[str, Any]:
    found: dict[str, Any] = torch.load(folder / "state.pt")
    return found


@pytest.fixture(scope="module")
def single(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """The states of one process before the first and after six steps."""
    folder = tmp_path_factory.mktemp("single")
    run_ranks(1, steps, folder, 6)
    return saved_state(folder)


def assert_same_weights(mine: dict[str, torch.Tensor], single: dict[str, Any]) -> None:
    """Equal up to rounding, which Adam enlarges where a gradient is almost zero, on each processor in another way.

    So a tensor's difference is compared with how far training moved it: 0.2 % on an AMD EPYC, 1 % allowed. Batch norms
    over each process's own images, for example, make it 122 %.
    """
    initial, theirs = single["initial"], single["state"]
    assert mine.keys() == theirs.keys()
    for name, tensor in theirs.items():
        if name.startswith(("model.", "average.")) and tensor.is_floating_point():
            change, difference = (tensor - initial[name]).norm(), (mine[name] - tensor).norm()
            assert difference <= 0.01 * change, f"{name}: changed by {change:.3g}, differs by {difference:.3g}"


def test_exchanged_values_equal_those_of_one_process() -> None:
    run_ranks(2, exchange)


@pytest.mark.parametrize("parallel", ["ddp", "fsdp"])
def test_two_processes_take_the_steps_of_one(tmp_path: Path, single: dict[str, Any], parallel: str) -> None:
    run_ranks(2, steps, tmp_path, 6, parallel)
    found = saved_state(tmp_path)
    assert found["sharded"] == (parallel == "fsdp")
    assert_same_weights(found["state"], single)
    lines = (tmp_path / "log.jsonl").read_text(encoding="utf-8").splitlines()
    assert [json.loads(line)["step"] for line in lines] == [1, 2, 3, 4, 5, 6, 6], "one process writes the log"
    assert (tmp_path / "model" / "model.safetensors").is_file()


def test_any_number_of_processes_resumes_from_any_other(tmp_path: Path, single: dict[str, Any]) -> None:
    run_ranks(2, steps, tmp_path, 2, "ddp")
    run_ranks(4, steps, tmp_path, 4, "fsdp")
    assert saved_state(tmp_path)["resumed_at"] == 2
    run_ranks(1, steps, tmp_path, 5)
    assert saved_state(tmp_path)["resumed_at"] == 4
    run_ranks(2, steps, tmp_path, 6, "fsdp")
    assert saved_state(tmp_path)["resumed_at"] == 5
    assert_same_weights(saved_state(tmp_path)["state"], single)
    assert not list(tmp_path.glob(".checkpoint*")), "no partial checkpoint is left"
    kept = sorted(path.name for path in tmp_path.glob("checkpoint-*"))
    assert kept == ["checkpoint-4", "checkpoint-6"], "the last one, and the folder before it"


def test_when_one_process_is_killed_the_other_reports_it_and_the_run_resumes(tmp_path: Path) -> None:
    """From shards, by the command line, as on a cluster."""
    write_shards(shapes(), tmp_path / "shards", "tar", 4000)
    num_steps = 40
    toml = f'preset = "tiny"\nsteps = {num_steps}\nbatch_size = 16\nthreads = 1\n'
    toml += "checkpoint_every = 3\nvalidate_every = 20\n"
    (tmp_path / "tiny.toml").write_text(toml, encoding="utf-8")
    train = ["train", "--data", str(tmp_path / "shards"), "--config", str(tmp_path / "tiny.toml")]
    train += ["--home", str(tmp_path / "home"), "--json"]
    port, prints = free_port(), [(tmp_path / f"out-{rank}", tmp_path / f"errors-{rank}") for rank in (0, 1)]
    processes = [
        start_command(
            *train,
            folder=tmp_path,
            out=prints[rank][0],
            errors=prints[rank][1],
            environment=environment(**rank_variables(rank, 2, port)),
        )
        for rank in (0, 1)
    ]
    try:
        wait_for_checkpoint(tmp_path / "home", {prints[rank][1]: processes[rank] for rank in (0, 1)})
        processes[1].send_signal(signal.SIGKILL)
        code = processes[0].wait()
    finally:
        for process in processes:
            process.kill()
    out, errors = (path.read_text(encoding="utf-8") for path in prints[0])
    assert code == 2, errors
    assert out == ""
    error_lines = [line for line in errors.splitlines() if line.startswith('{"error"')]
    assert len(error_lines) == 1
    assert "another process" in json.loads(error_lines[0])["error"]["message"]
    assert "Traceback" not in errors

    (log,) = (tmp_path / "home").glob("runs/train-*/log.jsonl")
    before = log.read_text(encoding="utf-8").splitlines()
    done = torchrun(2, *CLERESTORY, *train)
    result = json.loads(done.stdout)
    assert (result["facts"]["processes"], result["facts"]["parallelism"]) == (2, "ddp")
    store = open_store(tmp_path / "home")
    assert store.model_folder(result["model"])
    (evidence,) = store.find_evidence("train")
    after = store.blobs.get(evidence.artifacts["log"]).decode().splitlines()
    assert after[:3] == before[:3], "the run resumed, it did not start again"
    assert [json.loads(line)["step"] for line in after if "loss" in json.loads(line)] == list(range(1, num_steps + 1))


def wait_for_checkpoint(home: Path, processes: dict[Path, ForkedProcess]) -> None:
    """Wait for the first one of processes, which are given by the files of their errors."""
    end = time.monotonic() + LIMIT
    while not list(home.glob("runs/train-*/checkpoint-*/position.json")):
        for errors, process in processes.items():
            assert process.poll() is None, errors.read_text(encoding="utf-8")
        assert time.monotonic() < end
        time.sleep(0.01)


def test_a_single_process_has_the_plain_engine(monkeypatch: pytest.MonkeyPatch) -> None:
    with current_engine(TrainConfig()) as engine:
        assert engine is SINGLE_PROCESS
    monkeypatch.setenv("WORLD_SIZE", "8")  # of a job scheduler, without torchrun's other variables
    monkeypatch.delenv("MASTER_ADDR", raising=False)
    with current_engine(TrainConfig(parallelism="fsdp")) as engine:
        assert engine is SINGLE_PROCESS


def test_settings_that_several_processes_do_not_support_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(ConfigError, match="shared evenly by 3"):
        Ranks(0, 3).check_batch_size(16)
    Ranks(0, 4).check_batch_size(16)
    for name, value in {"RANK": "0", "WORLD_SIZE": "2", "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": "1"}.items():
        monkeypatch.setenv(name, value)
    with pytest.raises(ConfigError, match="grad_accum_steps"), current_engine(TrainConfig(grad_accum_steps=4)):
        pass
