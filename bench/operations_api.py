"""The API under drawn requests: ``python bench/operations_api.py``, or with the number of requests, 20,000 by default.

Schemathesis draws requests from the description of a real server, half of them valid and half of them not, for every
endpoint. The server has a tiny model; nothing may crash, take longer than 10 s, or be an error without its type.
"""

from __future__ import annotations

import os
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import jsonschema  # type: ignore[import-untyped]  # it ships no types
import psutil  # type: ignore[import-untyped]  # it ships no types
from schemathesis import Case, GenerationMode

sys.path.insert(0, str(Path(__file__).parents[1]))  # for tests.support
from tests.support.hostile_bodies import for_each_case
from tests.support.tiny_model import make_tiny_model
from tests.web.small_server import running

from clerestory.core.sample import Dataset
from clerestory.data import open_data
from clerestory.store import open_store
from clerestory.store.operations.api_keys import KeyRing, KeyScope, create_key
from clerestory.web import create_app
from clerestory.web.openapi import description
from clerestory.web.serve_config import LogConfig, ServeConfig
from table import Row, publish

REQUESTS = 20_000
MAX_SECONDS = 10.0
KEYS, CHECKS = 1_000, 20_000
SEED = 1


def drawn_requests(requests: int) -> Iterable[Row]:
    """Requests drawn for each endpoint of the description."""
    document = description()
    paths = [path for path in document["paths"] if path.startswith("/v1/")]
    statuses: Counter[int] = Counter()
    seconds: list[float] = []
    crashes, untyped = [], []
    data = few_icons()
    with tempfile.TemporaryDirectory() as folder, open_store(Path(folder) / "home") as store:
        model = make_tiny_model(Path(folder) / "model", data)
        with running(
            create_app(store, data, model=str(model), config=ServeConfig(log=LogConfig(access="off")))
        ) as base:
            before = psutil.Process().memory_info().rss
            for path in paths:
                # Nothing can be wrong with a request that has no parameter.
                modes = list(GenerationMode) if "post" in document["paths"][path] else [GenerationMode.POSITIVE]
                for mode in modes:

                    def check(case: Case[Any], path: str = path) -> None:
                        start = time.perf_counter()
                        answer = case.call(base_url=base, timeout=60)
                        seconds.append(time.perf_counter() - start)
                        statuses[answer.status_code] += 1
                        late = answer.status_code == 504 and "X-Request-Timeout" in case.headers
                        if answer.status_code >= 500 and not late:
                            crashes.append((path, answer.status_code, case.body))
                        elif answer.status_code >= 400:
                            try:
                                schema = {"$ref": "#/components/schemas/Error"}
                                body = answer.json()
                                jsonschema.validate(body, {**schema, "components": document["components"]})
                                assert body["error"]["type"]
                                assert body["error"]["fix"]
                            except (ValueError, AssertionError, jsonschema.ValidationError):
                                untyped.append((path, answer.status_code, answer.text[:200]))

                    for_each_case(base, requests // (2 * len(paths) - 2) + 1, SEED, check, mode, path)
            growth = (psutil.Process().memory_info().rss - before) / 2**20
    for problem in [*crashes, *untyped][:20]:
        print(problem, file=sys.stderr)
    n = len(seconds)
    spread = ", ".join(f"{status}: {count:,}" for status, count in sorted(statuses.items()))
    seconds.sort()
    yield Row("answers with a 5xx", len(crashes), "", "0", not crashes, n, note=spread)
    yield Row("4xx without type and remedy", len(untyped), "", "0", not untyped, n)
    late = sum(each > MAX_SECONDS for each in seconds)
    note = f"median {1000 * seconds[n // 2]:.0f} ms, slowest {seconds[-1]:.2f} s; the client's work is part of it"
    yield Row("answers later than 10 s", late, "", "0", not late, n, note=note)
    yield Row(
        "drawn requests", n, "", f"{REQUESTS:,}", n >= REQUESTS, n, note=f"memory of both sides +{growth:.0f} MiB"
    )


def few_icons() -> Dataset:
    """Some hundred drawings of one style."""
    icons = open_data("icons")
    ids = {sample.id for sample in [s for s in icons if s.groups["style"] == "twemoji"][::8]}
    return icons.filter(lambda sample: sample.id in ids)


def key_checks() -> Iterable[Row]:
    """What the check of a key costs, with a thousand keys, and no database."""
    with tempfile.TemporaryDirectory() as folder, open_store(Path(folder) / "home") as store:
        issued = [create_key(store, f"key {i}", (KeyScope.INFER,), "bench", "bench") for i in range(KEYS)]
        ring = KeyRing.of(store)
        start = time.perf_counter()
        for i in range(CHECKS):
            assert ring.check(issued[i % KEYS].secret, time.time())[1] == "valid"
        each = 1e6 * (time.perf_counter() - start) / CHECKS
        start = time.perf_counter()
        KeyRing.of(store)
        refresh = 1000 * (time.perf_counter() - start)
    yield Row(
        "check of a key", each, "µs", "≤ 50 µs", each <= 50, CHECKS, note=f"reading {KEYS:,} keys: {refresh:.0f} ms"
    )


if __name__ == "__main__":
    os.environ.setdefault("OMP_NUM_THREADS", "1")
    number = int(sys.argv[1]) if len(sys.argv) > 1 else REQUESTS
    sys.exit(0 if publish("operations_api", [*key_checks(), *drawn_requests(number)]) else 1)
