"""Measures the peak memory of every entry for image files: ``python -m tests.support.peak_memory FOLDER [ENTRY ...]``.

Prints JSON: for each entry and file the peak of the resident memory in MB above that before the entry was used, when
everything was loaded and an ordinary image had been through.
"""

from __future__ import annotations

import base64
import json
import sys
import tempfile
import threading
from collections.abc import Callable
from pathlib import Path

from starlette.testclient import TestClient
from tests.support.images import solid_image
from tests.support.memory import memory, peak_of

from clerestory.apps.captioning import caption_files
from clerestory.apps.folder_index import FolderIndex
from clerestory.apps.loading import load_model
from clerestory.core.sample import Caption, Dataset, Sample
from clerestory.data import open_data
from clerestory.stages.train.train_data import _pixels
from clerestory.store import Store, open_store
from clerestory.web import create_app

BASE = "http://127.0.0.1:8000"
Entry = Callable[[Path], object]


def entries(store: Store, client: TestClient, scratch: Path) -> dict[str, Entry]:
    """Every way in which an image comes in, by name; each takes the path of a file."""
    model = load_model(store, "starter")[0]

    def dataset(file: Path) -> Dataset:
        """Two samples of one image, so that the next one is read while the first is in memory."""
        sample = open_data(folder_of(file)).samples[0]
        samples = [Sample(name, sample.image, (Caption(name),)) for name in ("one", "two")]
        return Dataset(file.name, samples, lambda _: file.read_bytes())

    def folder_of(file: Path) -> Path:
        folder = Path(tempfile.mkdtemp(dir=scratch))
        for name in ("a", "b", "c"):
            (folder / f"{name}{file.suffix}").write_bytes(file.read_bytes())
        return folder

    def embeddings(file: Path) -> None:
        uri = "data:image/png;base64," + base64.b64encode(file.read_bytes()).decode()
        client.post("/v1/embeddings", json={"input": [uri, uri]}).raise_for_status()

    def upload(file: Path) -> None:
        files = [("images", (file.name, file.read_bytes()))] * 2
        answer = client.post("/describe", files=files, headers={"origin": BASE})
        answer.raise_for_status()
        assert "skipped" not in answer.text

    return {
        "data add": lambda file: open_data(folder_of(file)),
        "use search": lambda file: FolderIndex.open(folder_of(file), store, model.digest, model.dims).update(
            model.embed_images
        ),
        "use describe": lambda file: list(caption_files(model, [file, file])),
        "train": lambda file: _pixels(list(dataset(file)), dataset(file), 64, lambda _: None),
        "web upload": upload,
        "/v1/embeddings": embeddings,
    }


def main(folder: Path, names: list[str]) -> dict[str, dict[str, float]]:
    """The peaks by entry and file."""
    with tempfile.TemporaryDirectory() as scratch:
        store = open_store(Path(scratch) / "home")
        app = create_app(store, None, model="starter")
        with TestClient(app, base_url=BASE) as client:
            ready = threading.Event()
            while client.get("/readyz").status_code != 200:
                ready.wait(0.1)
            ordinary = Path(scratch) / "ordinary.png"
            ordinary.write_bytes(solid_image("red", (640, 480)))
            chosen = {k: v for k, v in entries(store, client, Path(scratch)).items() if not names or k in names}
            for entry in chosen.values():
                entry(ordinary)
            idle = memory("VmRSS")
            files = sorted(folder.iterdir())
            return {
                name: {file.name: round(peak_of(entry, file) - idle, 1) for file in files}
                for name, entry in chosen.items()
            }


if __name__ == "__main__":
    sys.stdout.write(json.dumps(main(Path(sys.argv[1]), sys.argv[2:]), indent=1))
