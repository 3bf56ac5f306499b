"""Wrong labels by the embeddings of a model, from images to the evidence of an audit."""

from __future__ import annotations

import io
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from PIL import Image

from clerestory.apps.audit_topics import unchecked
from clerestory.apps.label_match import match_labels
from clerestory.core.codec import Tags
from clerestory.core.digest import digest_bytes
from clerestory.core.sample import Dataset, Sample
from clerestory.stages.audit.config import AuditConfig
from clerestory.stages.audit.group_findings import WRONG_LABEL
from clerestory.stages.audit.run import audit, read_audit
from clerestory.store import open_store

NAMES = ("red", "green", "blue")


class MeanColour:
    """An image is its mean colour."""

    digest = "c0105" * 12 + "0000"
    dims = (3,)

    def embed_images(self, images: Sequence[Image.Image], dim: int | None = None) -> np.ndarray:
        rows = np.stack([np.asarray(image, np.float32).mean(axis=(0, 1)) for image in images]) - 90
        return rows / np.linalg.norm(rows, axis=1, keepdims=True)

    def embed_texts(self, texts: Sequence[str], dim: int | None = None) -> np.ndarray:
        raise NotImplementedError


def coloured(count: int, wrong: Sequence[int] = ()) -> Dataset:
    """Images of a reddish, greenish or bluish colour in classes of these names; some have that of the next."""
    rng = np.random.default_rng(0)
    contents, samples = {}, []
    for i in range(count):
        colour = rng.integers(0, 120, 3) + 120 * (np.arange(3) == i % 3)
        out = io.BytesIO()
        Image.new("RGB", (32, 32), tuple(colour.tolist())).save(out, "PNG")
        contents[f"{i:04}"] = out.getvalue()
        label = Tags({"class": NAMES[(i + (i in wrong)) % 3]})
        samples.append(Sample(f"{i:04}", digest_bytes(out.getvalue()), groups=label))
    return Dataset("coloured", samples, lambda sample: contents[sample.id])


def test_wrong_labels_reach_the_evidence(tmp_path: Path) -> None:
    store, wrong = open_store(tmp_path), range(5, 600, 20)
    data = coloured(600, wrong)
    found = match_labels(data, MeanColour(), store)
    assert found is not None
    planted = {f"{i:04}" for i in wrong}
    assert len(planted & set(found[0].samples)) >= 0.8 * len(planted)
    assert len(set(found[0].samples) - planted) <= 0.2 * len(found[0].samples)
    result = audit(data, store, AuditConfig(), model=MeanColour.digest, of_labels=found)
    affected = result.evidence.find("affected", {"finding": WRONG_LABEL.code})
    assert affected is not None
    assert affected.value == len(found[0].samples) / 600
    again, _ = read_audit(result.evidence, store)
    assert [each.samples for each in again.detections if each.code is WRONG_LABEL] == [found[0].samples]


def test_right_labels_are_not_named(tmp_path: Path) -> None:
    found = match_labels(coloured(300), MeanColour(), open_store(tmp_path))
    assert found is not None
    assert sum(len(each.samples) for each in found) <= 3


def test_data_without_classes_is_not_checked_and_the_page_says_so(tmp_path: Path) -> None:
    assert match_labels(coloured(20), MeanColour(), open_store(tmp_path)) is None
    assert any("label of each image" in line for line in unchecked(captions_matched=True))
    assert not any("label of each image" in line for line in unchecked(captions_matched=True, labels_checked=True))
