"""The starter: it matches its evidence, and is used where no release is live yet."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import numpy as np
import pytest

from clerestory.apps import starter
from clerestory.apps.loading import load_model
from clerestory.apps.starter import add_starter, live_or_starter, starter_evidence
from clerestory.core.codec import encode
from clerestory.core.digest import digest_bytes
from clerestory.core.errors import IntegrityError
from clerestory.core.sample import VAL
from clerestory.data.icons import open_icons
from clerestory.data.images import decode_image
from clerestory.models import ClerestoryEncoder
from clerestory.models.starter import STARTER, starter_folder
from clerestory.stats.ranking import best_ranks
from clerestory.store import Store, open_store


@pytest.fixture
def store(tmp_path: Path) -> Store:
    return open_store(tmp_path / "home")


def test_it_goes_into_a_store_with_its_evidence_and_stays_small(store: Store) -> None:
    digest = add_starter(store)
    assert add_starter(store) == digest
    assert store.verify_model(digest) == []
    (evidence,) = store.find_evidence("train", model=digest)
    assert store.blobs.get(evidence.artifacts["log"]).count(b"\n") >= evidence.facts.integer("steps")
    assert (starter_folder() / "model.safetensors").stat().st_size <= 20e6


def test_its_evidence_was_carried_over_from_an_earlier_format_and_not_edited() -> None:
    """The original, whose SHA-256 is its own id, lies beside it: all numbers and digests are the same."""
    (evidence,) = starter_evidence()
    original_id = evidence.artifacts["original_evidence"]
    content = (starter_folder().with_name("artifacts") / original_id).read_bytes()
    assert digest_bytes(content) == original_id == evidence.facts["carried_over_from"]
    original = json.loads(content)
    original["created"] = original.pop("made")
    carried = encode(evidence)
    renamed = {"pictures": "images", "vocabulary": "vocab_size", "batch": "batch_size"}
    facts = {renamed.get(name, name): value for name, value in original.pop("facts").items()}
    assert facts == {name: str(value) for name, value in carried.pop("facts").items() if name != "carried_over_from"}
    assert original.pop("artifacts") == {"log": evidence.artifacts["log"]}
    assert set(carried.pop("artifacts")) == {"log", "original_evidence"}
    assert original == carried


def test_a_changed_file_is_noticed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    shutil.copytree(starter_folder().parent, tmp_path / STARTER)
    monkeypatch.setattr(starter, "starter_folder", lambda: tmp_path / STARTER / "model")
    starter_evidence()
    weights = tmp_path / STARTER / "model" / "model.safetensors"
    changed = bytearray(weights.read_bytes())
    changed[-1] ^= 1
    weights.write_bytes(changed)
    with pytest.raises(IntegrityError, match="its evidence is for"):
        starter_evidence()


def test_it_is_used_where_no_release_is_live(store: Store) -> None:
    for named in ("icons@3", "shoes@live"):
        assert live_or_starter(store, named) == (named, "")
    ref, why = live_or_starter(store, "icons@live")
    assert ref == STARTER
    assert "no release of icons is live yet" in why
    model, resolved = load_model(store, ref)
    assert isinstance(model, ClerestoryEncoder)
    assert resolved.release is None


def test_it_is_as_good_as_its_evidence_says(store: Store) -> None:
    """Recall@10 on the validation pictures, computed here by another way than training did."""
    model, _ = load_model(store, STARTER)
    assert isinstance(model, ClerestoryEncoder)
    icons = open_icons()
    shown = [s for s in icons if s.split == VAL and s.groups.get("skin_tone") in (None, "none")]
    captions = sorted({s.caption for s in shown})
    images_NE = model.embed_images([decode_image(icons.read(s)) for s in shown])
    own_N = np.array([captions.index(s.caption) for s in shown])
    ranks = best_ranks(images_NE, model.embed_texts(captions), own_N, np.arange(len(captions)))
    (evidence,) = starter_evidence()
    claimed = evidence.find("recall@10", {"task": "image_to_text", "split": VAL})
    assert claimed is not None
    assert float(np.mean(ranks <= 10)) == pytest.approx(claimed.value, abs=0.005)
