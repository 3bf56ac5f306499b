"""The serving install: its size, its cold start and its answers: ``python bench/operations_install.py``.

Makes a new environment of the packages in ``deploy/serve-requirements.txt`` and Clerestory, exports the starter where
torch is installed, and starts servers of the new environment on that store.
"""

from __future__ import annotations

import contextlib
import json
import os
import re
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import httpx
import numpy as np

from clerestory.apps.exported_models import export_onnx
from clerestory.apps.loading import open_stored
from clerestory.apps.registration import stored_model
from clerestory.models import Embedder
from clerestory.models.onnx.export import TEXTS
from clerestory.store import open_store
from table import Row, publish

ROOT = Path(__file__).parents[1]
REQUIREMENTS = ROOT / "deploy" / "serve-requirements.txt"
MAX_MEGABYTES, MAX_COLD_S, MIN_COSINE = 400, 5.0, 0.9999
COLD_STARTS = 5


def make_environment(folder: Path) -> Path:
    """The Python of a new environment with the serving install."""
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", str(folder)], check=True)
    python = folder / "bin" / "python"
    pip = [sys.executable, "-m", "pip", "--python", str(python), "install", "-q", "--no-deps"]
    subprocess.run([*pip, "-r", str(REQUIREMENTS), str(ROOT)], check=True)
    return python


def megabytes(folder: Path) -> float:
    """The size on the disk, as ``du`` says."""
    said = subprocess.run(["du", "-sk", str(folder)], check=True, capture_output=True, text=True)
    return int(said.stdout.split()[0]) / 1024


@contextlib.contextmanager
def served(python: Path, home: Path) -> Iterator[tuple[str, float]]:
    """The URL of a new server, and the seconds from its start to ``/readyz`` 200."""
    command = [str(python.parent / "clerestory"), "serve", "--model", "starter", "--data", "none", "--port", "0"]
    environment = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
    begun = time.perf_counter()
    process = subprocess.Popen(
        [*command, "--home", str(home)],
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        env=environment,
    )
    try:
        assert process.stdout is not None
        url = next(found.group() for line in process.stdout if (found := re.search(r"http://[^/]+", line)))
        while True:
            with contextlib.suppress(httpx.HTTPError):
                if httpx.get(f"{url}/readyz").status_code == 200:
                    break
            time.sleep(0.01)
        yield url, time.perf_counter() - begun
    finally:
        process.terminate()
        process.wait()


def main() -> int:
    """Measure everything; the exit code."""
    with tempfile.TemporaryDirectory() as temporary:
        python = make_environment(Path(temporary) / "venv")
        site = next((python.parents[1] / "lib").glob("python*/site-packages"))
        size = megabytes(site)
        present = [name for name in ("torch", "transformers", "scipy", "pyarrow") if (site / name).exists()]
        home = Path(temporary) / "home"
        with open_store(home) as store:
            digest = stored_model(store, "starter")
            source = open_stored(store, digest)
            exported = export_onnx(store, source, "starter")
        assert isinstance(source, Embedder)
        times = []
        for _ in range(COLD_STARTS):
            with served(python, home) as (url, seconds):
                times.append(seconds)
                body = {"input": list(TEXTS), "model": "starter"}
                answer = httpx.post(f"{url}/v1/embeddings", json=body, timeout=60).json()
        rows = np.array([each["embedding"] for each in answer["data"]])
        cosine = float((rows * source.embed_texts(TEXTS)).sum(axis=1).min())
        compared = exported.comparison
        assert compared is not None
        note = f"packages left out: {present or 'none of them present'}"
        spread = f"median of {json.dumps([round(each, 2) for each in times])}"
        return (
            0
            if publish(
                "operations_install",
                [
                    Row(
                        "site-packages of a new environment",
                        size,
                        "MB",
                        f"≤ {MAX_MEGABYTES}",
                        size <= MAX_MEGABYTES,
                        1,
                        "",
                        note,
                    ),
                    Row(
                        "cold start to /readyz",
                        statistics.median(times),
                        "s",
                        f"≤ {MAX_COLD_S:g}",
                        statistics.median(times) <= MAX_COLD_S,
                        COLD_STARTS,
                        "",
                        spread,
                    ),
                    Row(
                        "least cosine, texts over HTTP",
                        cosine,
                        "",
                        f"≥ {MIN_COSINE}",
                        cosine >= MIN_COSINE,
                        len(TEXTS),
                        "torch",
                    ),
                    Row(
                        "least cosine, images",
                        compared.min_image_cosine,
                        "",
                        f"≥ {MIN_COSINE}",
                        compared.min_image_cosine >= MIN_COSINE,
                        compared.images,
                        "torch",
                    ),
                    Row(
                        "equal captions",
                        compared.equal_captions,
                        "",
                        f"{compared.captions}",
                        compared.equal_captions == compared.captions,
                        compared.captions,
                        "torch",
                    ),
                    Row("the export, text tower included", exported.bytes / 1e6, "MB", "reported", True, 1),
                ],
            )
            else 1
        )


if __name__ == "__main__":
    sys.exit(main())
