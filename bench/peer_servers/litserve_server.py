"""LitServe with its batching: ``python litserve_server.py MODEL PORT``."""

from __future__ import annotations

import sys
from typing import Any

import litserve  # type: ignore[import-not-found]  # in a venv of its own

from clerestory.models.resolve import open_reference


class Embedding(litserve.LitAPI):  # type: ignore[misc]  # as above
    """One text in, one embedding out."""

    def setup(self, device: str) -> None:
        """Load the model."""
        self.model: Any = open_reference(sys.argv[1])

    def decode_request(self, request: dict[str, str]) -> str:
        """The text."""
        return request["input"]

    def predict(self, texts: list[str]) -> list[Any]:
        """The embeddings of a batch."""
        return list(self.model.embed_texts(texts))

    def encode_response(self, output: Any) -> dict[str, list[float]]:
        """The body of the response."""
        return {"embedding": output.tolist()}


if __name__ == "__main__":
    api = Embedding(max_batch_size=64, batch_timeout=0.002)
    server = litserve.LitServer(api, accelerator="cpu", devices=1, workers_per_device=1)
    server.run(host="127.0.0.1", port=int(sys.argv[2]), generate_client_file=False, log_level="error")
