"""Retrieval with several captions per image, against the published protocol written as loops."""

import re
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image
from tests.support.images import encode_image

from clerestory.core.digest import digest_bytes
from clerestory.core.evidence import Evidence
from clerestory.core.sample import Caption, Dataset, Sample
from clerestory.stages.evaluate import EvaluateConfig, evaluate
from clerestory.stages.evaluate.config import RetrievalProtocol
from clerestory.stats.aggregate import recompute
from clerestory.stats.rows import read_rows
from clerestory.store import Store

P, D = 40, 16


def photo_of(text: str) -> int:
    return int(re.findall(r"\d{3}", text)[0])


class NoisyModel:
    """An ``Embedder`` whose images and captions have a noisy direction in common, by a hash of the input."""

    digest = "5" * 64
    dims = (D,)

    def embed_images(self, images: list[Image.Image], dim: int | None = None) -> NDArray[np.float32]:
        return self._rows([(int(np.asarray(image)[0, 0, 0]), i.tobytes()) for image in images for i in [image]])

    def embed_texts(self, texts: list[str], dim: int | None = None) -> NDArray[np.float32]:
        return self._rows([(photo_of(text), text.encode()) for text in texts])

    @staticmethod
    def _rows(inputs: list[tuple[int, bytes]]) -> NDArray[np.float32]:
        rows = []
        for number, content in inputs:
            noise = np.random.default_rng(int(digest_bytes(content)[:12], 16)).normal(size=D)
            row = np.random.default_rng(number).normal(size=D) + 1.2 * noise
            rows.append(row / np.linalg.norm(row))
        return np.array(rows, dtype=np.float32).reshape(-1, D)


def dataset(counts: list[int], keywords: bool = False) -> Dataset:
    """Images with so many captions each, in the split test."""
    contents = {}
    samples = []
    for i, count in enumerate(counts):
        content = encode_image(Image.new("RGB", (4, 4), (i, 0, 0)))
        captions = [Caption(f"photo {i:03d} caption {n}") for n in range(count)]
        more = (
            [Caption(f"photo {i:03d} keyword", kind="keyword"), Caption(f"Bild {i:03d} auf Deutsch", "de")]
            if keywords
            else []
        )
        sample = Sample(f"{i:03d}", digest_bytes(content), (*captions, *more), split="test")
        contents[sample.id] = content
        samples.append(sample)
    return Dataset("photos", samples, lambda sample: contents[sample.id])


def run(store: Store, data: Dataset, protocol: RetrievalProtocol = "all_captions", *suites: str) -> Evidence:
    config = EvaluateConfig(suites=suites or ("retrieval",), splits=("test",), retrieval_protocol=protocol)
    return evaluate(NoisyModel(), data, config, store)


def published(data: Dataset, limit: int) -> dict[tuple[str, int], float]:
    """Recall@k of both directions as the papers compute it: loops over a matrix of similarities."""
    model = NoisyModel()
    images = model.embed_images([Image.new("RGB", (4, 4), (i, 0, 0)) for i in range(len(data))])
    texts = [c.text for s in data for c in [c for c in s.captions if c.kind == "name" and c.lang == "en"][:limit]]
    owner = [photo_of(text) for text in texts]
    similarity = images @ model.embed_texts(texts).T
    found = {}
    for k in (1, 5, 10):
        hits = [any(owner[t] == i for t in np.argsort(-similarity[i])[:k]) for i in range(len(data))]
        found["image_to_text", k] = float(np.mean(hits))
        hits = [owner[t] in np.argsort(-similarity[:, t])[:k] for t in range(len(texts))]
        found["text_to_image", k] = float(np.mean(hits))
    return found


def recalls(evidence: Evidence) -> dict[tuple[str, int], float]:
    found = {}
    for task in ("image_to_text", "text_to_image"):
        for k in (1, 5, 10):
            measurement = evidence.find(f"recall@{k}", {"task": task, "split": "test"})
            assert measurement is not None
            found[task, k] = measurement.value
    return found


@pytest.mark.parametrize(
    ("counts", "protocol", "limit"),
    [([5] * P, "all_captions", 99), ([5] * P, "five_captions", 5),
     ([7] * P, "five_captions", 5), ([7] * P, "all_captions", 99),
     
     ([1 + i % 4 for i in range(P)], "all_captions", 99), ([5] * P, "first_caption", 1), ([1] * P, "all_captions", 1)],
)  # fmt: skip
def test_recall_is_that_of_the_published_protocol(
    store: Store, counts: list[int], protocol: RetrievalProtocol, limit: int
) -> None:
    data = dataset(counts, keywords=True)
    evidence = run(store, data, protocol)
    assert recalls(evidence) == pytest.approx(published(data, limit))
    assert evidence.facts["retrieval.protocol"] == protocol
    used = min(max(counts), limit)
    assert evidence.facts["retrieval.captions_per_image.test"] == used
    total = sum(min(count, limit) for count in counts)
    assert evidence.facts["candidates.image_to_text.test"] == total
    rows = read_rows(store.blobs.get(evidence.rows))
    assert (rows["task"] == "text_to_image").sum() == total
    for measurement in evidence.measurements:
        assert recompute(rows, measurement) == measurement
    # The captions of an image are not independent of one another.
    recall = evidence.find("recall@1", {"task": "text_to_image", "split": "test"})
    assert recall is not None
    assert recall.clusters == P


def test_with_one_caption_per_image_every_protocol_is_the_same(store: Store) -> None:
    data = dataset([1] * P, keywords=True)
    values = [recalls(run(store, data, protocol)) for protocol in ("all_captions", "five_captions", "first_caption")]
    assert values[0] == values[1] == values[2]


def test_guessing_is_computed_for_several_correct_captions(store: Store) -> None:
    evidence = run(store, dataset([5] * P))
    assert evidence.facts["chance.recall@1.image_to_text.test"] == pytest.approx(1 / P)
    assert evidence.facts["chance.recall@10.text_to_image.test"] == pytest.approx(10 / P)


def test_perturbed_texts_have_the_same_candidates(store: Store) -> None:
    evidence = run(store, dataset([3] * P), "all_captions", "retrieval", "text_perturbation")
    rows = read_rows(store.blobs.get(evidence.rows))
    upper = rows["condition"] == "upper_case"
    assert upper.sum() == 3 * P
    clean = (rows["task"] == "text_to_image") & (rows["condition"] == "clean")
    hits = {q: rank <= 10 for q, rank in zip(rows["query"][clean], rows["rank"][clean], strict=True)}
    assert all(hits[t] == bool(r) for t, r in zip(rows["target"][upper], rows["reference"][upper], strict=True))


def test_a_task_of_kind_retrieval_uses_the_protocol_too(store: Store, tmp_path: Path) -> None:
    lines = ["image,caption,caption_en,split"]
    for i in range(8):
        (tmp_path / f"{i}.png").write_bytes(encode_image(Image.new("RGB", (4, 4), (i, 0, 0))))
        lines.append(f"{i}.png,photo {i:03d} one,photo {i:03d} two,test")
    (tmp_path / "photos.csv").write_text("\n".join(lines))
    (tmp_path / "mine.toml").write_text('name = "mine"\nkind = "retrieval"\ndata = "photos.csv"\n')
    config = EvaluateConfig(suites=("tasks",), tasks=(str(tmp_path / "mine.toml"),))
    evidence = evaluate(NoisyModel(), dataset([1, 1]), config, store)
    assert {m.n for m in evidence.measurements if m.slice["operation"] == "text_to_image"} == {16}
    assert {m.n for m in evidence.measurements if m.slice["operation"] == "image_to_text"} == {8}
