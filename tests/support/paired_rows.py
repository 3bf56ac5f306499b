"""Rows of two models on the same questions, with a chosen difference between them."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np

from clerestory.core.codec import Facts, Tags
from clerestory.core.evidence import Cost, Evidence, Recipe, Subject
from clerestory.core.provenance import environment_digest, now, stage_code
from clerestory.stats.aggregate import measure
from clerestory.stats.rows import write_rows
from clerestory.store import Store

STYLES = ("noto", "twemoji", "openmoji")
FACTS = {"candidates.image_to_text.test": 500, "candidates.text_to_image.test": 500}
Columns = dict[str, np.ndarray[Any, Any]]


def rows(
    n: int, concepts: int = 0, hit: float = 0.6, change: dict[str, tuple[float, float]] | None = None, seed: int = 0
) -> Columns:
    """Rows of image→text in three styles, one concept to every ``n / concepts`` pictures.

    Args:
        n: how many pictures.
        concepts: how many concepts; as many as pictures when 0.
        hit: the share of pictures that the unchanged model gets right.
        change: for a style (or ``""`` for all) the shares of right answers lost and of wrong answers won.
        seed: draws who changes; the unchanged model is the same for every seed.
    """
    right = np.random.default_rng(7).random(n) < hit
    style = np.array([STYLES[i % 3] for i in range(n)], dtype=object)
    dice, first = np.random.default_rng(seed), right.copy()
    for name, (lost, won) in (change or {}).items():
        mine = (style == name) | (name == "")
        draw = dice.random(n)
        right[mine & first & (draw < lost)] = False
        right[mine & ~first & (draw < won)] = True
    whose = np.arange(n) % (concepts or n)
    texts = {
        "task": ["image_to_text"] * n,
        "split": ["test"] * n,
        "operation": [""] * n,
        "sample": [f"s{i}" for i in range(n)],
        "concept": [f"c{c}" for c in whose],
        "query": [f"caption {i}" for i in range(n)],
        "target": [""] * n,
        "answer": [""] * n,
        "unscored": [""] * n,
        "condition": ["clean"] * n,
        "severity": [""] * n,
        "style": list(style),
    }
    columns: Columns = {name: np.array(cells, dtype=object) for name, cells in texts.items()}
    return columns | {"rank": np.where(right, 2.0, 60.0), "score": np.full(n, np.nan)}


def put_model(store: Store, place: Path, name: str) -> str:
    """A folder that stands for a model."""
    folder = place / name
    folder.mkdir(parents=True)
    (folder / "config.json").write_text(json.dumps({"name": name}), encoding="utf-8")
    (folder / "model.safetensors").write_bytes(name.encode() * 100)
    return store.put_model(folder)


def put_evaluation(
    store: Store, model: str, found: Columns, facts: dict[str, int] | None = None, **subject: str
) -> Evidence:
    """Evidence of kind ``evaluate`` with these rows and their recall@10."""
    recipe = Recipe(
        "share_at_most", "rank", Tags(task="image_to_text", split="test", condition="clean"), "concept", 10.0
    )
    slice_ = {"task": "image_to_text", "split": "test"}
    asked = (found["task"] == "image_to_text").any()
    measured = (measure(found, recipe, "recall@10", slice_),) if asked else ()
    digests = {"data": "d" * 64, "code": stage_code("evaluate"), "environment": environment_digest()} | subject
    evidence = Evidence(
        kind="evaluate",
        subject=Subject(model=model, config="c" * 64, **digests),
        measurements=measured,
        findings=(),
        cost=Cost(1.0, 1.0, 1.0),
        created=now(),
        rows=store.blobs.put(write_rows(found)),
        facts=Facts(FACTS if facts is None else facts),
    )
    store.put_evidence(evidence)
    return evidence
