"""Training on a Ray cluster: Ray starts the processes, and each runs ``train``, as with ``torchrun``.

Ray Train gives every worker a torch process group, which ``current_engine`` uses. Ray's usage reports are off, and a
Ray started by this module has no dashboard and listens on the loopback address only.
"""

from __future__ import annotations

import os
import secrets
import shutil
from collections.abc import Callable
from importlib import import_module
from pathlib import Path
from typing import Any

from clerestory.core.errors import ClerestoryError, MissingExtra
from clerestory.core.sample import Dataset
from clerestory.stages.train.config import TrainConfig
from clerestory.stages.train.run import KIND, TrainResult, result_from, train
from clerestory.store import Store, open_store

CLUSTER = "RAY_ADDRESS"  # of a running cluster; without it Ray is started for this run
RAY_VARIABLES = {
    "RAY_USAGE_STATS_ENABLED": "0",
    "RAY_TRAIN_V2_ENABLED": "1",
    "RAY_TRAIN_METRICS_ENABLED": "0",
    "RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO": "0",
}


def train_on_ray(
    data: Callable[[Store], Dataset], config: TrainConfig, store: Store, workers: int, retries: int = 3
) -> TrainResult:
    """Train on several Ray workers.

    When a worker is lost, all are restarted and resume from the last checkpoint.

    Args:
        data: opens the data in each worker; it is pickled.
        config: the settings; ``parallelism`` is DDP or FSDP.
        store: receives the result; every machine of the cluster must see its folder under the same path.
        workers: processes that share each batch, each with a GPU if the cluster has that many.
        retries: how many times lost workers are replaced.

    Raises:
        MissingExtra: Ray is not installed.
        ClerestoryError: Ray could not start the workers, or the training failed in one of them.
    """
    ray, ray_train, ray_torch = _library()
    folder = store.runs / f"ray-{secrets.token_hex(8)}"  # of this call alone
    start_ray = not ray.is_initialized()
    if start_ray and os.environ.get(CLUSTER):
        ray.init(logging_level="ERROR", log_to_driver=False)
    elif start_ray:
        local = {"_node_ip_address": "127.0.0.1", "include_dashboard": False}
        ray.init(num_cpus=workers, logging_level="ERROR", log_to_driver=False, **local)
    try:
        gpus = config.device != "cpu" and ray.cluster_resources().get("GPU", 0) >= workers
        trainer = ray_torch.TorchTrainer(
            _worker,
            train_loop_config={"data": data, "config": config, "home": str(store.home), "folder": folder},
            scaling_config=ray_train.ScalingConfig(num_workers=workers, use_gpu=gpus),
            run_config=ray_train.RunConfig(
                storage_path=str(folder), failure_config=ray_train.FailureConfig(max_failures=retries)
            ),
            torch_config=ray_torch.TorchConfig(backend="cpu:gloo,cuda:nccl" if gpus else "gloo"),
        )
        trainer.fit()
    except Exception as error:  # Ray's errors have no common base class
        raise _translate_error(error) from error
    finally:
        if start_ray:
            ray.shutdown()
    model = (folder / "model").read_text(encoding="utf-8")
    shutil.rmtree(folder, ignore_errors=True)
    return result_from(store.find_evidence(KIND, model=model)[0], cached=False)


def _worker(arguments: dict[str, Any]) -> None:
    """The function that each Ray worker runs."""
    store = open_store(arguments["home"])
    result = train(arguments["data"](store), arguments["config"], store)
    if os.environ.get("RANK", "0") == "0":
        file: Path = arguments["folder"] / "model"
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(result.model, encoding="utf-8")


def _library() -> tuple[Any, Any, Any]:
    for name, value in RAY_VARIABLES.items():
        os.environ.setdefault(name, value)
    try:
        return import_module("ray"), import_module("ray.train"), import_module("ray.train.torch")
    except ImportError:
        raise MissingExtra(
            "training on Ray needs the library ray, which is not installed", "pip install 'clerestory[ray]'"
        ) from None


def _translate_error(error: Exception) -> ClerestoryError:
    """The worker's own error if it is one of ours, otherwise an error with the reason that Ray gives."""
    for cause in (error, *getattr(error, "worker_failures", {}).values()):
        if isinstance(cause, ClerestoryError):
            return cause
    reason = (str(error).strip().splitlines() or [type(error).__name__])[-1]
    return ClerestoryError(f"the training on Ray failed: {reason}", "the same command resumes from the last checkpoint")
