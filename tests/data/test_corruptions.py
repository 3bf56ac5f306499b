"""The nineteen corruptions against references, against themselves, and against bad input."""

from __future__ import annotations

import io
import zipfile
from itertools import product
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from tests.data.corruption_draws import Scripted, picture

from clerestory.core.errors import ClerestoryError, ConfigError, InputError
from clerestory.data.corruptions import FAMILIES, NAMES, SEVERITIES, corrupt, corrupt_many
from clerestory.data.corruptions.engine import CORRUPTIONS, randomness
from clerestory.data.corruptions.parameters import PARAMETERS

REFERENCES = Path(__file__).with_name("corruption_references.zip")
DETERMINISTIC = (
    "defocus_blur",
    "zoom_blur",
    "brightness",
    "contrast",
    "pixelate",
    "jpeg_compression",
    "gaussian_blur",
    "saturate",
)


def _references() -> dict[str, np.ndarray]:
    with zipfile.ZipFile(REFERENCES) as archive:
        return {
            name.removesuffix(".png"): np.array(Image.open(io.BytesIO(archive.read(name))))
            for name in archive.namelist()
        }


KNOWN = _references()


def _distance(a: np.ndarray, b: np.ndarray) -> float:
    return float(np.abs(a.astype(float) - b).mean())


def test_there_are_nineteen_in_five_families() -> None:
    assert len(NAMES) == len(set(NAMES)) == 19
    assert set(NAMES) == set(CORRUPTIONS) == set(PARAMETERS)
    assert [len(names) for names in FAMILIES.values()] == [3, 4, 4, 4, 4]
    assert all(len(numbers) == len(SEVERITIES) for numbers in PARAMETERS.values())


@pytest.mark.parametrize("case", sorted(KNOWN))
def test_equals_the_reference_within_one_level(case: str) -> None:
    """Random ones are handed the very numbers that the reference was made with."""
    name, severity = case.rsplit("-", 1)
    made = CORRUPTIONS[name](picture(), int(severity), Scripted(int(severity)))
    assert np.abs(made.astype(int) - KNOWN[case]).max() <= 1


def test_every_deterministic_one_has_all_its_references() -> None:
    assert {f"{name}-{severity}" for name, severity in product(DETERMINISTIC, SEVERITIES)} <= set(KNOWN)


@pytest.mark.parametrize("size", [(64, 64), (224, 224), (65, 97), (32, 33)])
@pytest.mark.parametrize("name", NAMES)
def test_every_severity_runs_and_keeps_the_shape(name: str, size: tuple[int, int]) -> None:
    clean = picture(*size)
    before = clean.copy()
    for severity in SEVERITIES:
        made = corrupt(clean, name, severity, "a")
        assert made.dtype == np.uint8
        assert made.shape == clean.shape
        assert (made != clean).any()
    assert (clean == before).all()


@pytest.mark.parametrize("name", NAMES)
def test_gets_worse_with_severity(name: str) -> None:
    clean = [picture(96, 96), picture(80, 112), picture(112, 80)]
    means = []
    for severity in SEVERITIES:
        made = [
            corrupt(image, name, severity, f"{number}.{turn}")
            for number, image in enumerate(clean)
            for turn in range(4)
        ]
        means.append(np.mean([_distance(out, clean[number // 4]) for number, out in enumerate(made)]))
    if name == "saturate":
        # Severities 1 and 2 take colour away, 3 to 5 add it: each side gets worse on its own.
        assert means[0] < means[1]
        assert means[2] < means[3] < means[4]
    elif name == "spatter":
        assert means[0] < means[1]
        assert means[3] < means[4]
    else:
        assert means == sorted(means)


@pytest.mark.parametrize("name", NAMES)
def test_randomness_hangs_on_the_key_alone(name: str) -> None:
    clean = picture(65, 97)
    once, again, other = (corrupt(clean, name, 3, key) for key in ("a", "a", "b"))
    assert (once == again).all()
    assert (once == other).all() == (name in DETERMINISTIC)


def test_randomness_differs_by_name_and_severity() -> None:
    triples = [
        ("a", "snow", 1),
        ("b", "snow", 1),
        ("a", "snow", 2),
        ("a", "fog", 1),
        ("as", "now", 1),
        ("", "asnow", 1),
    ]
    drawn = {randomness(*triple).integers(2**63) for triple in triples}
    assert len(drawn) == len(triples)


def test_randomness_is_the_same_on_every_day() -> None:
    assert randomness("icons/a", "gaussian_noise", 3).integers(0, 1000, 4).tolist() == [813, 446, 629, 930]


def test_processes_and_order_change_nothing() -> None:
    images = [picture(40 + number, 64) for number in range(6)]
    keys = [f"key {number}" for number in range(6)]
    for name in ("gaussian_noise", "frost", "defocus_blur"):
        alone = corrupt_many(images, name, 4, keys)
        shared = corrupt_many(images, name, 4, keys, workers=2)
        backwards = corrupt_many(images[::-1], name, 4, keys[::-1], workers=3)[::-1]
        for one, two, three, image, key in zip(alone, shared, backwards, images, keys, strict=True):
            assert one.tobytes() == two.tobytes() == three.tobytes() == corrupt(image, name, 4, key).tobytes()


def test_none_gives_none() -> None:
    assert corrupt_many([], "fog", 1, [], workers=2) == []


def test_a_view_of_a_larger_picture_is_fine() -> None:
    large = picture(128, 128)
    part = large[::2, ::-2]
    for name in NAMES:
        assert (corrupt(part, name, 2, "k") == corrupt(part.copy(), name, 2, "k")).all()


@pytest.mark.parametrize(
    ("change", "kind", "sentence"),
    [
        ({"name": "gausian_noise"}, ConfigError, "did you mean gaussian_noise"),
        ({"severity": 0}, ConfigError, "severity is 0"),
        ({"severity": 6}, ConfigError, "from 1 \\(slight\\) to 5"),
        ({"severity": True}, ConfigError, "severity is True"),
        ({"severity": "3"}, ConfigError, "severity is '3'"),
        ({"image": np.zeros((64, 64), np.uint8)}, InputError, "grey"),
        ({"image": np.zeros((64, 64, 1), np.uint8)}, InputError, "grey"),
        ({"image": np.zeros((64, 64, 4), np.uint8)}, InputError, "RGBA"),
        ({"image": np.zeros((64, 64, 5), np.uint8)}, InputError, "shape"),
        ({"image": np.zeros((64, 64, 3), np.float32)}, InputError, "float32"),
        ({"image": [1, 2]}, InputError, "not list"),
        ({"image": np.zeros((31, 64, 3), np.uint8)}, InputError, "64×31 pixels.*32×32"),
    ],
)
def test_bad_input_gets_a_sentence(change: dict, kind: type[ClerestoryError], sentence: str) -> None:
    with pytest.raises(kind, match=sentence):
        corrupt(**{"image": picture(), "name": "snow", "severity": 3, **change})


def test_many_check_before_they_start() -> None:
    with pytest.raises(InputError, match="2 pictures but 1 keys"):
        corrupt_many([picture(), picture()], "snow", 1, ["a"])
    with pytest.raises(ConfigError, match="workers is 0"):
        corrupt_many([picture()], "snow", 1, ["a"], workers=0)
    with pytest.raises(InputError, match="grey"):
        corrupt_many([picture(), np.zeros((64, 64), np.uint8)], "snow", 1, ["a", "b"], workers=2)


def test_one_coloured_pictures_stay_so_where_nothing_is_drawn() -> None:
    """A 200 stays a 200 under a blur, whatever arithmetic makes of it on the way."""
    for level in (0, 1, 127, 200, 254, 255):
        flat = np.full((48, 48, 3), level, np.uint8)
        for name in (
            "zoom_blur",
            "gaussian_blur",
            "contrast",
            "pixelate",
            "glass_blur",
            "motion_blur",
            "elastic_transform",
        ):
            assert (corrupt(flat, name, 5) == level).all(), (name, level)
