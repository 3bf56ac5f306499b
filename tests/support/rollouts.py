"""A store with a live release and a candidate that nobody loads, and requests that were answered."""

from __future__ import annotations

import math
import random
from collections.abc import Callable
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from tests.support.released_store import add_release

from clerestory.stages.release import promote
from clerestory.stages.serve.rollout_router import RolloutRouter
from clerestory.stats.sequential import STAKES, log_factors
from clerestory.store import Store
from clerestory.store.operations.prediction import Arm, Prediction, RequestKind, new_response_id


def two_releases(store: Store, folder: Path, name: str = "icons") -> None:
    """``name@1``, which is live, and ``name@2``; their models are folders of one file."""
    for number in (1, 2):
        model = folder / f"{name}{number}"
        model.mkdir()
        (model / "config.json").write_text(f"{number}", encoding="utf-8")
        add_release(store, model, name=name)
    promote(f"{name}@1", store, "ada", "the first")


def router_of(store: Store, server: str = "a", **options: object) -> RolloutRouter:
    """A router that has read the rollout, of a server with every release in memory."""
    router = RolloutRouter(store, "icons", server, lambda rollout, why: promote(rollout.ref, store, "ada", why), bool)
    router.refresh()
    return router


def send(
    router: RolloutRouter,
    count: int,
    fails: Callable[[Arm], float],
    seed: int = 0,
    subject: Callable[[random.Random], str] = lambda _: "",
    kept: list[Prediction] | None = None,
) -> list[Arm]:
    """Let a router assign requests and observe their outcomes; the arms."""
    rng = random.Random(seed)
    random.seed(seed + 1_000)  # of the router's own draws
    arms = []
    for _ in range(count):
        response, who = new_response_id(), subject(rng)
        arm, rollout, propensity = router.assign(who, response)
        status = 500 if rng.random() < fails(arm) else 200
        prediction = Prediction(
            response,
            "r",
            1.0,
            RequestKind.EMBEDDINGS,
            "icons",
            2 if arm is Arm.CANDIDATE else 1,
            "0" * 64,
            arm=arm,
            rollout=rollout,
            propensity=propensity,
            status=status,
            subject=who,
        )
        router.observe(prediction)
        arms.append(arm)
        if kept is not None:
            kept.append(prediction)
    return arms


def log_e_path(
    bad: NDArray[np.bool_], candidate: NDArray[np.bool_], weight: NDArray[np.float64], tolerance: float
) -> NDArray[np.float64]:
    """The logarithm of the e-value after each of N requests, as ``RateExcess`` has it after each ``add``."""
    wealth = np.cumsum(log_factors(bad, candidate, weight, tolerance), axis=0)
    mean: NDArray[np.float64] = np.logaddexp.reduce(wealth, axis=1) - math.log(len(STAKES))
    return mean
