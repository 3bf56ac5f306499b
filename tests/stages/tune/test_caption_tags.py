"""``tune photos`` learns tags from captions, stores them with the model, and names them.

Half a minute with their features: 300 images go through the network, since those that look alike count as one, and a
word is learned only if other images confirm its cut-off.
"""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from tests.stages.tune.scenes import COLOURS, SHAPES, scene

from clerestory.apps.tags import tagger_of
from clerestory.cli.main import run
from clerestory.models.photo.encoder import PhotoEncoder
from clerestory.models.resolve import open_folder
from clerestory.store import open_store

NUM_NEW = 40


def test_tune_learns_tags_and_the_model_uses_them(scenes: Path, capsys: pytest.CaptureFixture[str]) -> None:
    home = scenes / "home"
    command = ["tune", "photos", "--data", str(scenes / "data"), "--home", str(home)]
    assert run([*command, "--json"]) == 0
    result = json.loads(capsys.readouterr().out)
    words = result["facts"]["learned_tags"]
    assert set(SHAPES) & set(words)
    assert set(words) <= {*SHAPES, *COLOURS}, "neither function words nor what every caption says"
    assert run(command) == 0
    assert f"{len(words)} words of your captions learned: {', '.join(words)}" in " ".join(
        capsys.readouterr().out.split()
    )

    folder = open_store(home).model_folder(result["model"])
    assert f"tags learned from the captions: {', '.join(words)}" in (folder / "README.md").read_text(encoding="utf-8")
    model = open_folder(folder)
    assert isinstance(model, PhotoEncoder)
    rng = np.random.default_rng(1)
    new = [scene(rng) for _ in range(NUM_NEW)]
    tags = tagger_of(model).tags(model.features([image for image, _, _ in new]))
    said = [
        (tag.text in said, tag.probability)
        for some, (_, *said) in zip(tags, new, strict=True)
        for tag in some
        if tag.text in words
    ]
    assert len(said) >= 10
    assert np.mean([right for right, _ in said]) >= 0.8
