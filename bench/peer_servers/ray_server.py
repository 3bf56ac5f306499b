"""Ray Serve with its batching: ``python ray_server.py MODEL PORT``."""

from __future__ import annotations

import signal
import sys
from typing import Any

import ray
from ray import serve

from clerestory.models.resolve import open_reference


@serve.deployment(max_ongoing_requests=256)
class Embedding:
    """One text in, one embedding out."""

    def __init__(self, model: str) -> None:
        self.model: Any = open_reference(model)

    @serve.batch(max_batch_size=64, batch_wait_timeout_s=0.002)
    async def embed(self, texts: list[str]) -> list[list[float]]:
        """The embeddings of a batch."""
        rows: list[list[float]] = self.model.embed_texts(texts).tolist()
        return rows

    async def __call__(self, request: Any) -> dict[str, list[float]]:
        """Answer one request."""
        return {"embedding": await self.embed((await request.json())["input"])}


if __name__ == "__main__":
    ray.init(address="local", num_cpus=4, include_dashboard=False, log_to_driver=False)
    serve.start(http_options={"host": "127.0.0.1", "port": int(sys.argv[2])})
    serve.run(Embedding.bind(sys.argv[1]))  # type: ignore[attr-defined]  # made by the decorator
    signal.sigwait({signal.SIGTERM, signal.SIGINT})
    serve.shutdown()  # type: ignore[no-untyped-call]  # of Ray
    ray.shutdown()
