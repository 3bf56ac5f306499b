"""PDQ hashes beside those of the reference implementation, in all orientations."""

from __future__ import annotations

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image

from clerestory.data import open_data
from clerestory.data.images import decode_image
from clerestory.stages.audit.hashing import MIN_SIDE, SIDE, TURNS, hash_images

# By pdqhash 0.2.8, the reference in C++, at 512 pixels.
REFERENCE = {
    "airplane-from-above.jpg": "b9491cab9630473675c4e34f0c7338cc5419326c81d6ddf2733e26094cfee7f0",
    "astronaut.png": "2d6b1af3a956c529e79ca3d2526fa834d4196c81cedd04de0a26b855fc99b724",
    "boats-in-a-village.jpg": "bd1c52d269abd00d8db96b70b2c697ba54095d6d2756b0d5ba286aaa4baec551",
    "cat.png": "5feb5321f01da156898e2bf629a5d3438412cdbd23f48942464526315db33ffd",
    "coffee.png": "04629e769e66365cb983b8668827f27c21a779e61e36e1f8c79927e27c8299e0",
    "empty-house.jpg": "b20aaa6c4e65cd964d9a06d3936dbb2c2c6d44445cd2a9bbaaa976645754e99b",
    "flower-buds.jpg": "eca334a234b8643ae74eca4c8ed52eb53abd0cb85982d3c294d3cd30db2c66cf",
    "galaxies.jpg": "1ce735e66266634f729429a232cad317e60e86be9c60dc59a42ec39c7379b919",
    "mountains.jpg": "2b3d7c71446394e5a69aab3eebcce936750357410cc13896ba248a6a41dbf795",
    "photographer.png": "dc9c9d3b746978f888f40ce6e5c3f70f7266623e8d989cb99f21f2010841e1c7",
    "plant-with-thorns.jpg": "34926d989da4d96fb4d14d35cb19d999324926c64db4e6496664d9ec666cd998",
    "river-in-a-canyon.jpg": "de1e920d36a369a37aec53ffd21e9413d4a1c5222168b1486f5adf564e174595",
    "rocket.jpg": "8792786c8f9350e4af1bc0e03f1fc0e03f1cc2f33da482737dcc821b24ecf376",
    "running-cat.jpg": "affb4c569be7ed6e6328b5100effcb48a02a7116d0a41a6c798d6112a7188ee7",
    "sheep.jpg": "45b7b6d8b2d3f236d4be49b6077e01d4c9fe3272d88f7c4903758cd50a291b01",
}


def means(image: Image.Image) -> NDArray[np.uint8]:
    reduced = image.convert("YCbCr").reduce(max(1, min(image.size) // MIN_SIDE))
    return np.asarray(reduced.resize((SIDE, SIDE), Image.Resampling.HAMMING))[None, ..., 0]


@pytest.fixture(scope="module")
def photographs() -> dict[str, Image.Image]:
    data = open_data("photographs")
    return {sample.id: decode_image(data.read(sample)) for sample in data if sample.id in REFERENCE}


def test_the_hash_is_that_of_the_reference_but_for_a_few_bits(photographs: dict[str, Image.Image]) -> None:
    assert set(photographs) == set(REFERENCE)
    differing = {}
    for name, image in photographs.items():
        ours = hash_images(means(image)).pdq[0, 0]
        reference = np.frombuffer(bytes.fromhex(REFERENCE[name]), np.uint8)
        differing[name] = int(np.bitwise_count(ours ^ reference).sum())
    assert np.median(list(differing.values())) <= 16, differing
    assert max(differing.values()) <= 40, differing  # of 256


def test_hashes_of_turned_images_come_from_one_transform(photographs: dict[str, Image.Image]) -> None:
    image = photographs["cat.png"]
    hashes = hash_images(means(image)).pdq[0]
    for orientation, turn in enumerate(TURNS):
        turned = image if turn is None else image.transpose(turn)
        direct = hash_images(means(turned)).pdq[0, 0]
        distances = [int(np.bitwise_count(direct ^ each).sum()) for each in hashes]
        assert distances[orientation] <= 8  # the means of a turned image are rounded otherwise
        assert min(d for k, d in enumerate(distances) if k != orientation) > 60


def test_an_image_without_structure_has_no_quality() -> None:
    flat = np.full((1, SIDE, SIDE), 128, np.uint8)
    assert hash_images(flat).quality.tolist() == [0]


def test_phash_survives_scaling_and_differs_between_images(photographs: dict[str, Image.Image]) -> None:
    hashes = {name: hash_images(means(image)).phash[0] for name, image in photographs.items()}
    halved = hash_images(means(photographs["cat.png"].reduce(2))).phash[0]
    distances = {name: int(np.bitwise_count(halved ^ each)) for name, each in hashes.items()}
    assert distances.pop("cat.png") <= 4
    assert min(distances.values()) >= 12
