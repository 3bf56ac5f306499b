"""Trains until killed or done, then prints the model's digest: ``train_worker.py HOME SEED STEPS WORKERS``."""

from __future__ import annotations

import hashlib
import io
import sys
from pathlib import Path

from PIL import Image, ImageDraw

from clerestory.core.codec import Tags
from clerestory.core.sample import Caption, Dataset, Sample

COLOURS = ("red", "green", "blue", "yellow", "purple", "orange", "black", "grey")
SHAPES = ("square", "circle", "triangle", "bar", "ring")


def _draw(colour: str, shape: str, inset: int) -> bytes:
    image = Image.new("RGB", (32, 32), "white")
    draw, box = ImageDraw.Draw(image), (inset, inset, 31 - inset, 31 - inset)
    if shape == "square":
        draw.rectangle(box, fill=colour)
    elif shape == "circle":
        draw.ellipse(box, fill=colour)
    elif shape == "triangle":
        draw.polygon([(16, inset), (inset, 31 - inset), (31 - inset, 31 - inset)], fill=colour)
    elif shape == "bar":
        draw.rectangle((inset, 13, 31 - inset, 19), fill=colour)
    else:
        draw.ellipse(box, outline=colour, width=4)
    out = io.BytesIO()
    image.save(out, "PNG")
    return out.getvalue()


def shapes() -> Dataset:
    """Coloured shapes, each drawn in three sizes; one combination in eight is for testing, one for validation."""
    content: dict[str, bytes] = {}
    samples = []
    for i, (colour, shape) in enumerate((c, s) for c in COLOURS for s in SHAPES):
        split = {3: "val", 7: "test"}.get(i % 8, "train")
        for inset in (3, 5, 7):
            png = _draw(colour, shape, inset)
            name = f"{colour}-{shape}-{inset}"
            content[name] = png
            tone = "dark" if inset == 7 else "none"
            captions = (
                Caption(f"{colour} {shape}"),
                Caption(f"{split}word{i}", kind="keyword"),
                Caption(shape, "en", "keyword"),
            )
            samples.append(
                Sample(
                    name,
                    hashlib.sha256(png).hexdigest(),
                    captions,
                    f"{colour}-{shape}",
                    Tags(skin_tone=tone),
                    split=split,
                )
            )
    return Dataset("shapes", samples, lambda sample: content[sample.id])


def main() -> None:
    from clerestory.stages.train import TrainConfig, train
    from clerestory.store import open_store

    home, (seed, steps, workers) = Path(sys.argv[1]), map(int, sys.argv[2:5])
    config = TrainConfig(
        preset="tiny",
        seed=seed,
        steps=steps,
        batch=16,
        threads=1,
        checkpoint_every=4,
        validate_every=8,
        workers=workers,
    )
    print(train(shapes(), config, open_store(home)).model)  # noqa: T201  # what the parent reads


if __name__ == "__main__":
    main()
