"""Captions that do not fit their image, by a model that sees colours and reads their names."""

from __future__ import annotations

import io
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from clerestory.apps.caption_match import MIN_CAPTIONS, match_captions
from clerestory.core.digest import digest_bytes
from clerestory.core.sample import Caption, Dataset, Sample
from clerestory.stages.audit.caption_findings import MISMATCH
from clerestory.stages.audit.config import AuditConfig
from clerestory.stages.audit.run import audit
from clerestory.store import open_store


class ColourModel:
    """An image is its mean colour, a caption the colour that it gives as three numbers."""

    digest = "c0104" * 12 + "0000"
    dims = (3,)

    def embed_images(self, images: Sequence[Image.Image], dim: int | None = None) -> np.ndarray:
        return self._unit([np.asarray(image, np.float32).mean(axis=(0, 1)) for image in images])

    def embed_texts(self, texts: Sequence[str], dim: int | None = None) -> np.ndarray:
        return self._unit([np.array(text.split()[-3:], np.float32) for text in texts])

    @staticmethod
    def _unit(rows: Sequence[np.ndarray]) -> np.ndarray:
        centred = np.stack(rows).astype(np.float32) - 127.5
        return centred / np.linalg.norm(centred, axis=1, keepdims=True)


def colours(count: int, swapped: Sequence[int] = ()) -> Dataset:
    """Images of one colour each, whose captions name it; those of some are the captions of their neighbours."""
    values = np.random.default_rng(0).integers(0, 256, (count, 3))
    contents, samples = {}, []
    for k, value in enumerate(values):
        content = Image.new("RGB", (32, 32), tuple(value.tolist()))
        file = Path(f"{k:04}.png")
        contents[file.name] = _png(content)
        told = values[(k + 1) % count] if k in swapped else value
        caption = Caption("the colour " + " ".join(map(str, told.tolist())))
        samples.append(Sample(file.name, digest_bytes(contents[file.name]), (caption,), concept=file.stem))
    return Dataset("colours", samples, lambda sample: contents[sample.id])


def _png(image: Image.Image) -> bytes:
    out = io.BytesIO()
    image.save(out, "PNG")
    return out.getvalue()


def test_swapped_captions_are_named_and_others_are_not(tmp_path: Path) -> None:
    store = open_store(tmp_path)
    swapped = range(0, 400, 10)
    data = colours(400, swapped)
    found = match_captions(data, ColourModel(), store)
    assert found is not None
    (detection,) = found
    assert detection.code is MISMATCH
    wrong = {data.samples[k].id for k in swapped}
    assert len(wrong & set(detection.samples)) >= 0.6 * len(wrong)
    assert len(set(detection.samples) - wrong) <= 0.3 * len(detection.samples)
    result = audit(data, store, AuditConfig(), model=ColourModel.digest, of_model=found)
    assert MISMATCH.code in {finding.code for finding in result.evidence.findings}
    assert result.evidence.facts["captions_matched"] is True


def test_right_captions_have_no_finding(tmp_path: Path) -> None:
    assert match_captions(colours(300), ColourModel(), open_store(tmp_path)) == []


@pytest.mark.parametrize("count", [1, MIN_CAPTIONS - 1])
def test_few_captions_are_not_judged(count: int, tmp_path: Path) -> None:
    assert match_captions(colours(count), ColourModel(), open_store(tmp_path)) is None
