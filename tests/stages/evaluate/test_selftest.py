"""The self-test on coloured tiles, whose faults can be worked out by hand, and on a real network."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from tests.support.colour_tiles import ColourModel, tiles

from clerestory.core.errors import CapabilityError
from clerestory.core.evidence import Evidence
from clerestory.core.sample import Dataset
from clerestory.models import open_model
from clerestory.stages.evaluate.selftest import SelfTestConfig, self_test
from clerestory.stages.evaluate.selftest.faults import FAULTS
from clerestory.stages.evaluate.selftest.probe import make_probe_set, run_pipeline
from clerestory.stats.aggregate import recompute
from clerestory.stats.rows import read_rows
from clerestory.store import Store

QUICK = SelfTestConfig(num_rebuilds=12, rebuild_images=40, reload_every=5)


def caught(evidence: Evidence, store: Store, gate: str) -> dict[str, bool]:
    rows = read_rows(store.blobs.get(evidence.rows))
    keep = (rows["case"] == "fault") & (rows["gate"] == gate)
    return dict(zip(rows["name"][keep], rows["caught"][keep] == 1, strict=True))


def test_faults_that_change_outputs_are_detected_and_rebuilds_raise_no_alarm(store: Store) -> None:
    evidence = self_test(ColourModel(), tiles(), QUICK, store, reload=ColourModel)
    by_quality, by_any = caught(evidence, store, "quality"), caught(evidence, store, "any")
    assert by_any.keys() == {f.name for f in FAULTS} - {"int8_drift", "ema_not_applied"}, "these need weights"
    notes = {f.where: f.state for f in evidence.findings if f.code == "CLR-E030"}
    assert notes == {"int8_drift": "not_applicable", "ema_not_applied": "not_applicable"}
    for name in ("bgr", "normalisation", "wrong_tokenizer"):
        assert by_quality[name], name
    # The first half of "red tile" still names the colour: that cut changes nothing here.
    assert by_any["stale_cache"]
    assert not by_any["truncated_prompts"]
    assert by_any["shuffled_labels"]
    assert caught(evidence, store, "labels") == {name: name == "shuffled_labels" for name in by_any}
    alarms = evidence.find("false_alarms", {})
    assert alarms is not None
    assert (alarms.value, alarms.n) == (0.0, 12)


def test_every_number_follows_from_the_rows_and_is_made_once(store: Store) -> None:
    model = ColourModel()
    evidence = self_test(model, tiles(), QUICK, store)
    rows = read_rows(store.blobs.get(evidence.rows))
    assert all(recompute(rows, m) == m for m in evidence.measurements)
    assert {m.slice.get("gate", "any") for m in evidence.measurements} == {
        "any",
        "quality",
        "churn",
        "fingerprint",
        "labels",
    }
    asked = model.images_seen
    assert self_test(model, tiles(), QUICK, store).id == evidence.id
    assert model.images_seen == asked


class Nervous(ColourModel):
    """Never gives the same answer twice."""

    def __init__(self) -> None:
        super().__init__()
        self.random = np.random.default_rng(3)

    def embed_images(self, images: Sequence[Image.Image], dim: int | None = None) -> np.ndarray:
        rows = super().embed_images(images, dim)
        rows = rows + 0.05 * self.random.standard_normal(rows.shape).astype(np.float32)
        return rows / np.linalg.norm(rows, axis=1, keepdims=True)


def test_a_model_that_is_not_the_same_twice_raises_alarms_without_any_fault(store: Store) -> None:
    evidence = self_test(Nervous(), tiles(), QUICK, store)
    alarms = evidence.find("false_alarms", {})
    assert alarms is not None
    assert alarms.value == 1.0


def test_the_faults_do_what_they_say(few_icons: Dataset, tiny_model: Path) -> None:
    model = open_model(tiny_model)
    probe = make_probe_set(few_icons, SelfTestConfig(num_images=40))
    original = run_pipeline(model, probe)
    again = run_pipeline(model, probe, 7, np.random.default_rng(0).permutation(len(probe.images)))
    np.testing.assert_allclose(again.images, original.images, atol=1e-5)
    before = {name: value.clone() for name, value in model.network.state_dict().items()}
    for number, fault in enumerate(FAULTS):
        outputs = fault.inject(model, probe, original, np.random.default_rng(number))
        assert outputs is not None, fault.name
        same = [
            np.allclose(getattr(outputs, n), getattr(original, n), atol=1e-6) for n in ("images", "captions", "labels")
        ]
        touched = {
            "truncated_prompts": [True, False, True],
            "wrong_tokenizer": [True, False, True],
            "shuffled_labels": [True, True, False],
            "swapped_towers": [False, False, True],
        }.get(fault.name, [False, same[1], True])
        assert same == touched, fault.name
    after = model.network.state_dict()
    assert all(bool((after[name] == value).all()) for name, value in before.items()), "the model itself is as it was"


def test_a_model_without_embeddings_is_refused(store: Store) -> None:
    with pytest.raises(CapabilityError, match="compares embeddings"):
        self_test(object(), tiles(), QUICK, store)  # type: ignore[arg-type]  # what a caller may do wrong


def test_settings_that_make_no_sense() -> None:
    with pytest.raises(Exception, match="num_rebuilds must be .*, not 0"):
        SelfTestConfig(num_rebuilds=0)
