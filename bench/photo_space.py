"""Fit the space of ``photos``, the included model for photographs: ``make photos-space PHOTOGRAPHS=captions.jsonl``.

Reads openly licensed photographs with captions, one JSON object a line: ``image`` (a path, relative to the file),
``captions``, ``licence``, ``id``, ``flickr_url``. Writes ``space.safetensors``, ``settings.json`` and ``sources.csv``
(which photographs, and their licences) into the package. The photographs themselves are not kept.
"""

from __future__ import annotations

import csv
import json
import sys
from itertools import product
from pathlib import Path

import numpy as np
from PIL import Image
from safetensors.numpy import save_file

from clerestory.models.folder_check import MINILM_DIGEST
from clerestory.models.photo.efficientnet import VARIANTS, EfficientNetLite
from clerestory.models.photo.encoder import photo_features
from clerestory.models.photo.folder import SETTINGS_FILE, SPACE_FILE, resource
from clerestory.models.photo.package import read_weights
from clerestory.models.photo.space import LinearHead, PhotoSpace, class_probabilities, unit_rows
from clerestory.models.projection import principal_axes
from clerestory.models.text_tower import load_text_tower
from clerestory.stats.ridge import fit_ridge

VARIANT = "lite2"
OPEN_LICENCES = ("CC-BY-2.0", "CC-BY-SA-2.0", "CC0-1.0", "no-known-copyright-restrictions", "US-government-work")
CAPTION_SHARE = 0.5  # of the captions in the text centre; the rest are general sentences
WHITENING, RIDGE_OF_WHITENING = 0.15, 0.02
CLASS_WHITENING = 0.125
DEFINITION_WEIGHT = 0.5  # of a class, beside its name
CLASS_SHARE = 0.55  # of the embeddings by class names, beside the general head
SPREAD_RIDGE = 2  # of the covariance that texts are scaled by, as a multiple of its mean variance
DIMS = (64, 128, 256)
SCALES = (5, 10, 15, 20, 30, 40, 60, 80)

SUBJECTS = (
    "a man, a woman, a child, a boy, a girl, two people, a group of people, a dog, two dogs, a cat, a bird, a horse, "
    "a car, a bicycle, a boat, a train, a tree, a flower, a house, a plate of food"
)
ACTIONS = "standing, sitting, running, playing, walking, jumping, eating, looking at something, resting, moving"
PLACES = "in a park, on a street, on the beach, in the snow, in a house, on the grass, by the water, near a building"
THINGS = (
    "a person, an animal, a thing, food, a vehicle, a building, nature, the sky, water, a toy, a tool, furniture, "
    "clothing, sports, music, a road, a field, a mountain, night, day, red, blue, green, yellow, white, black, "
    "many things"
)


def main(path: Path) -> None:
    """Fit on the photographs of a file and write the package's files."""
    rows = [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines() if line.strip()]
    used = [row for row in rows if row["licence"] in OPEN_LICENCES and row["captions"]]
    print(f"{len(used):,} of {len(rows):,} photographs are openly licensed")
    network = EfficientNetLite(VARIANTS[VARIANT]).eval()
    network.load_state_dict(read_weights(VARIANT))
    photographs = photo_features(network, [Image.open(path.parent / row["image"]) for row in used])
    owner = np.array([i for i, row in enumerate(used) for _ in row["captions"]])
    tower = load_text_tower()
    captions = tower.embed([caption.strip() for row in used for caption in row["captions"]]).astype(np.float64)

    general_sentences = [" ".join(parts) for parts in product(*(t.split(", ") for t in (SUBJECTS, ACTIONS, PLACES)))]
    plain = 0.7 * tower.embed(general_sentences).mean(axis=0)
    plain += 0.3 * tower.embed([f"a photo of {thing}" for thing in THINGS.split(", ")]).mean(axis=0)
    text_centre = CAPTION_SHARE * captions.mean(axis=0) + (1 - CAPTION_SHARE) * plain
    whitening = power(np.cov(captions.T), -WHITENING)
    axes = principal_axes(unit_rows((captions - text_centre) @ whitening))[:, : DIMS[-1] - 1]
    text_map = whitening @ axes

    entries = json.loads(resource("classes.json").read_text(encoding="utf-8"))
    names = tower.embed([f"a photo of a {entry['name']}" for entry in entries])
    classes = names + DEFINITION_WEIGHT * tower.embed([entry["definition"] for entry in entries])
    classes = (classes - classes.mean(axis=0)).astype(np.float64)
    classes = classes @ power(classes.T @ classes, -CLASS_WHITENING) @ text_map
    class_rows = class_probabilities(photographs.logits) @ classes

    directions = unit_rows((captions - text_centre) @ text_map)
    targets = np.zeros((len(used), directions.shape[1]))
    np.add.at(targets, owner, directions)
    ridge = fit_ridge(photographs.features, unit_rows(targets))
    head = LinearHead(ridge.feature_mean, ridge.weight, CLASS_SHARE)
    space = PhotoSpace(classes, class_rows.mean(axis=0), text_centre, text_map, np.eye(classes.shape[1]), head)
    # Each photograph as the head sees one that it was not fitted on.
    embedded = space.mix(unit_rows(class_rows - space.class_mean), ridge.left_out - ridge.target_mean, head)
    covariance = np.cov(embedded.T)
    spread = covariance + SPREAD_RIDGE * np.trace(covariance) / len(covariance) * np.eye(len(covariance))
    space = PhotoSpace(classes, space.class_mean, text_centre, text_map, spread, head)
    texts = space.embed_texts(captions)[:, 1:]
    scale = min(SCALES, key=lambda scale: loss(scale * embedded @ texts.T, owner))
    print(f"penalty {ridge.penalty}, scale {scale}")

    precise = ("spread", "text_map", "text_centre")
    arrays = {n: a.astype(np.float32 if n in precise else np.float16) for n, a in space.tensors().items()}
    save_file(dict(sorted(arrays.items())), resource(SPACE_FILE))
    settings = {
        "variant": VARIANT,
        "text_tower_digest": MINILM_DIGEST,
        "logit_scale": float(scale),
        "dims": DIMS,
        "trained_on": f"ImageNet-1k, and {len(used)} captioned photographs of COCO",
    }
    resource(SETTINGS_FILE).write_text(json.dumps(settings, indent=2) + "\n", encoding="utf-8")
    with resource("sources.csv").open("w", encoding="utf-8", newline="") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(["id", "licence", "page"])
        writer.writerows(sorted([row["id"], row["licence"], row.get("flickr_url", "")] for row in used))


def power(matrix: np.ndarray, exponent: float) -> np.ndarray:
    """A power of a covariance relative to its largest variance, with a ridge."""
    values, vectors = np.linalg.eigh(matrix)
    result: np.ndarray = vectors * (values / values[-1] + RIDGE_OF_WHITENING) ** exponent @ vectors.T
    return result


def loss(logits: np.ndarray, owner: np.ndarray) -> float:
    """The mean loss of choosing the photograph of each caption among all."""
    shifted = logits - logits.max(axis=0)
    return float((np.log(np.exp(shifted).sum(axis=0)) - shifted[owner, np.arange(len(owner))]).mean())


if __name__ == "__main__":
    main(Path(sys.argv[1]))
