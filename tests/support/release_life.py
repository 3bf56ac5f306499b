"""A store in which models are made, evaluated and released for real, only without a network."""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from clerestory.core.codec import Tags
from clerestory.core.digest import canonical
from clerestory.core.evidence import Cost, Evidence, Finding, Recipe, Subject
from clerestory.core.provenance import environment_digest, now, stage_code
from clerestory.core.release import Decision, Policy, Release
from clerestory.stages.release import gate, load_policy, register
from clerestory.stats.aggregate import measure
from clerestory.stats.rows import write_rows
from clerestory.store import Store

DATA = "d" * 64
POLICY = load_policy()
BOUNDS = tuple(rule for rule in POLICY.rules if not rule.is_relative)
ALL = len(POLICY.rules)


def some_rows(share: float, concepts: int = 200) -> dict[str, np.ndarray[Any, Any]]:
    """Rows of three kinds of retrieval in which ``share`` of the ranks are in the top ten, and of one latency."""
    kinds = [("image_to_text", "test"), ("image_to_text", "test_style"), ("text_to_image", "test")]
    dice = np.random.default_rng(0)
    text: dict[str, list[str]] = {name: [] for name in ("task", "split", "operation", "concept")}
    numbers: dict[str, list[float]] = {"rank": [], "ms": []}
    for task, split in kinds:
        for number in range(concepts):
            cells = (task, split, "", f"c{number}")
            for name, cell in zip(text, cells, strict=True):
                text[name].append(cell)
            numbers["rank"].append(float(dice.integers(1, 11) if number < share * concepts else dice.integers(11, 500)))
            numbers["ms"].append(np.nan)
    for _ in range(40):
        for name, cell in zip(text, ("latency", "test", "embed_image", ""), strict=True):
            text[name].append(cell)
        numbers["rank"].append(np.nan)
        numbers["ms"].append(float(dice.uniform(5, 20)))
    texts = {name: np.array(cells, dtype=object) for name, cells in text.items()}
    return texts | {name: np.array(cells) for name, cells in numbers.items()}


@dataclass
class Life:
    """A store in which models can be made and evaluated for real, only without a network."""

    store: Store
    place: Path
    made: int = field(default=0)

    def model(self, **config: str) -> str:
        """Put another model into the store."""
        self.made += 1
        folder = self.place / f"model{self.made}"
        folder.mkdir(parents=True)
        (folder / "config.json").write_text(json.dumps({"number": self.made, **config}), encoding="utf-8")
        (folder / "model.safetensors").write_bytes(bytes([self.made]) * 2000)
        return self.store.put_model(folder)

    def evaluated(self, model: str, share: float = 0.7, concepts: int = 200, **subject: str) -> Evidence:
        """Evidence made from rows by the recipes of ``evaluate``."""
        rows = some_rows(share, concepts)
        found = []
        for rule in BOUNDS:
            if rule.metric == "recall@10":
                recipe = Recipe("share_at_most", "rank", rule.where, "concept", 10.0)
                found.append(measure(rows, recipe, rule.metric))
            else:
                found.append(measure(rows, Recipe("quantile", "ms", rule.where, "", 0.95), rule.metric))
        digests = {"data": DATA, "code": stage_code("evaluate"), "environment": environment_digest()} | subject
        evidence = Evidence(
            kind="evaluate",
            subject=Subject(model=model, config="c" * 64, **digests),
            measurements=tuple(found),
            findings=(),
            cost=Cost(1.0, 1.0, 1.0),
            created=now(),
            rows=self.store.blobs.put(write_rows(rows)),
            artifacts=Tags(examples=self.store.blobs.put(canonical({"model": model}))),
        )
        self.store.put_evidence(evidence)
        return evidence

    def decide(self, model: str, policy: Policy = POLICY) -> Decision:
        return gate(model, self.store, policy, DATA)

    def release(self, share: float = 0.7) -> Release:
        """A new model, evaluated and registered with the decision of the gate."""
        model = self.model()
        self.evaluated(model, share)
        return register("icons", self.decide(model), self.store, "Ada", "a test")

    def live(self) -> tuple[int, int]:
        """The numbers of ``live`` and ``previous``, 0 for none."""
        live, previous = self.store.alias("icons", "live"), self.store.alias("icons", "previous")
        return (live.number if live else 0, previous.number if previous else 0)


def failed(findings: list[Finding]) -> list[Finding]:
    """The findings that failed."""
    return [finding for finding in findings if finding.state == "fail"]


def flip(path: Path, at: int) -> None:
    """Change one bit of a file."""
    content = bytearray(path.read_bytes())
    content[at] ^= 1
    path.write_bytes(content)
