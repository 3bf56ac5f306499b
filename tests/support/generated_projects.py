"""Projects drawn by a seed: a dataset with odd texts and licences, audited or not, and a model made from it."""

from __future__ import annotations

import json
import random
from dataclasses import dataclass, replace
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
import yaml
from PIL import Image
from tests.support.images import encode_image

from clerestory.apps.data_documents.record import DatasetRecord, dataset_record
from clerestory.core.codec import Facts, Tags
from clerestory.core.digest import canonical, digest_bytes
from clerestory.core.evidence import Cost, Evidence, Interval, Measurement, Subject
from clerestory.core.release import Decision, Event, Policy, Reason, Release, Rule
from clerestory.core.sample import Caption, Dataset, Sample
from clerestory.models.folder_check import MINILM_DIGEST
from clerestory.report.collect import collect
from clerestory.report.model import ReportData
from clerestory.stages.audit.run import audit
from clerestory.stages.release.promotion import register
from clerestory.store import Store

LICENCES = (
    "MIT", "Apache-2.0", "CC-BY-4.0", "CC-BY-SA-4.0", "CC0-1.0", "MIT AND CC-BY-4.0", "MIT OR GPL-3.0-only",
    "GPL-2.0-only WITH Classpath-exception-2.0", "LicenseRef-house", "llama3.1", "cc by 4.0", "all rights reserved", "",
)  # fmt: skip
TEXTS = (
    "a red bicycle", "ein rotes Fahrrad", "mail me: ana@example.org", 'say "cheese", please', "line\nbreak\tand tab",
    "<b>bold</b> & more", "| a | table |", "\u202eright to left", "🚲🚲", "x" * 4_000, "'; DROP TABLE samples; --",
    "=SUM(A1:A9)", "[link](javascript:alert(1))", "%s %d {0}", "",
)  # fmt: skip
NAMES = ("shop", "fotos im büro", "a.b", "дом", "data-2026", "🚲", "x" * 90)
MOMENT = "2026-11-{day:02d}T10:00:00+00:00"


@dataclass(frozen=True)
class Project:
    """A project of one store."""

    store: Store
    data: Dataset
    record: DatasetRecord
    known: ReportData


def make_project(seed: int, store: Store) -> Project:
    """The project of a seed, in a store that may hold others."""
    draw = random.Random(seed)
    data = _dataset(draw, seed)
    moment = MOMENT.format(day=1 + seed % 28)
    if draw.random() < 0.8:
        tags = Tags(digest=data.digest, source=draw.choice(("./a b", "hf:org/name", "new-splits:x")))
        event = Event("data_added", data.name, draw.choice(NAMES), "", moment, tags)
        store.put_dataset(data.name, str(tags["source"]), data.digest, len(data), event)
    if draw.random() < 0.7:
        audit(data, store)
    release = _release(draw, seed, store, data, moment)
    return Project(store, data, dataset_record(data, store), collect(store, release.ref))


def _dataset(draw: random.Random, seed: int) -> Dataset:
    contents: dict[str, bytes] = {}
    samples = []
    noise = np.random.default_rng(seed)
    for number in range(draw.randint(1, 9)):
        pixels = noise.integers(0, 255, (40, 40, 3), dtype=np.uint8)
        content = encode_image(Image.fromarray(pixels))
        image = digest_bytes(content)
        contents[image] = content
        captions = tuple(
            Caption(draw.choice(TEXTS) or "dot", draw.choice(("en", "de", "pt-BR")), draw.choice(("name", "keyword")))
            for _ in range(draw.randint(0, 4))
        )
        groups = Tags({name: draw.choice(NAMES) for name in draw.sample(("style", "skin tone", "Ort"), 2)})
        samples.append(
            Sample(
                f"{draw.choice(NAMES)}/{number}",
                image,
                captions,
                concept=draw.choice(TEXTS[:6]),
                groups=groups if draw.random() < 0.7 else Tags(),
                licence=draw.choice(LICENCES),
                source=draw.choice(TEXTS),
                split=draw.choice(("train", "val", "test")) if seed % 3 else "",
            )
        )
    return Dataset(f"{draw.choice(NAMES)} {seed}", samples, lambda sample: contents[sample.image])


def _model(draw: random.Random, seed: int, store: Store, licence: str) -> str:
    """A model folder, whose card declares a licence unless that is empty."""
    tower = {"text_tower_digest": draw.choice((MINILM_DIGEST, "f" * 64))} if draw.random() < 0.6 else {}
    with TemporaryDirectory() as folder:
        (Path(folder) / "config.json").write_text(json.dumps({"model_type": "x", "seed": seed, **tower}))
        if licence:
            front = {"license": licence, "datasets": list(draw.sample(NAMES, 2)), "base_model": draw.choice(NAMES)}
            (Path(folder) / "README.md").write_text(f"---\n{yaml.safe_dump(front, allow_unicode=True)}---\n# A model\n")
        return store.put_model(Path(folder))


def _release(draw: random.Random, seed: int, store: Store, data: Dataset, moment: str) -> Release:
    is_trained = draw.random() < 0.6
    model = _model(draw, seed, store, "" if is_trained else draw.choice(LICENCES))
    licences = data.training_licences()
    subject = Subject(model=model, data=data.digest, code="c" * 64, config="d" * 64)
    cost = Cost(1.0, 1.0, 1.0)
    facts = Facts(
        model=model, data=data.name, images=len(data), preset="nano", licences=tuple(licences),
        licence_images=tuple(licences.values()), **({"start_from": "photos"} if draw.random() < 0.4 else {}),
    )  # fmt: skip
    if is_trained:
        store.put_evidence(Evidence("train", subject, (), (), cost, moment, facts=facts))
    value = round(draw.random(), 6)
    around = Interval(max(0.0, value - 0.05), min(1.0, value + 0.05), "cluster-t")
    where = Tags(task="image_to_text", split="test")
    measured = [Measurement("recall@10", value, "share", 99, around, slice=where)]
    if draw.random() < 0.5:
        measured.append(Measurement("latency_p95", draw.random() * 90, "ms", 7, None, "one machine", direction="lower"))
    evaluation = Evidence("evaluate", replace(subject, config="e" * 64), tuple(measured), (), cost, moment)
    store.put_evidence(evaluation)
    policy = Policy("p", (Rule("finds", "recall@10", where, at_least=0.2),))
    reason = Reason("finds", "pass", "meets_bound", "0.2 is met", evidence=evaluation.id)
    decision = Decision("ship", "p 1", store.blobs.put(canonical(policy)), model, (reason,))
    return register(f"model-{seed}", decision, store, who=draw.choice(NAMES), why=draw.choice(TEXTS), notes=Tags())
