"""The nineteen corruptions against references, against themselves, and against bad input."""

from __future__ import annotations

import heapq
import io
import zipfile
from itertools import combinations, pairwise, product
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from scipy import stats
from tests.data.corruption_draws import Scripted, picture

from clerestory.core.errors import ClerestoryError, ConfigError, InputError
from clerestory.data.corruptions import FAMILIES, NAMES, SEVERITIES, corrupt, corrupt_many
from clerestory.data.corruptions.blur import _pixel_sources
from clerestory.data.corruptions.engine import CORRUPTIONS, image_rng
from clerestory.data.corruptions.frost_textures import TEXTURES, _texture, random_crop
from clerestory.data.corruptions.parameters import PARAMETERS
from clerestory.data.corruptions.sheet import main
from clerestory.data.corruptions.spatter import distance
from clerestory.data.corruptions.weather import plasma

# Hendrycks & Dietterich (ICLR 2019): fifteen in four families, and four for validation.
BENCHMARK = {
    "noise": ("gaussian_noise", "shot_noise", "impulse_noise"),
    "blur": ("defocus_blur", "glass_blur", "motion_blur", "zoom_blur"),
    "weather": ("snow", "frost", "fog", "brightness"),
    "digital": ("contrast", "elastic_transform", "pixelate", "jpeg_compression"),
    "extra": ("speckle_noise", "gaussian_blur", "spatter", "saturate"),
}
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


def test_the_nineteen_of_the_benchmark_are_there_and_every_one_is_complete() -> None:
    assert len(NAMES) == len(set(NAMES))
    assert set(NAMES) == set(CORRUPTIONS) == set(PARAMETERS)
    assert all(set(names) <= set(FAMILIES[family]) for family, names in BENCHMARK.items())
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
            for turn in range(12)
        ]
        means.append(np.mean([_distance(out, clean[number // 12]) for number, out in enumerate(made)]))
    if name == "saturate":
        # Severities 1 and 2 take colour away, 3 to 5 add it: each side gets worse on its own.
        assert means[0] < means[1]
        assert means[2] < means[3] < means[4]
    elif name in ("glass_blur", "snow", "frost"):
        # The benchmark's own numbers are not strictly in order here (its package gives glass_blur on these pictures
        # 15.0, 14.4, 21.0, 19.5, 20.8), so a step back is allowed, but only a small one.
        assert means[4] > means[0]
        assert all(after > 0.9 * before for before, after in pairwise(means))
    else:
        assert means == sorted(means)


@pytest.mark.parametrize("name", NAMES)
def test_randomness_hangs_on_the_key_alone(name: str) -> None:
    clean = picture(65, 97)
    once, again, other = (corrupt(clean, name, 3, key) for key in ("a", "a", "b"))
    assert (once == again).all()
    if any(name in names for names in BENCHMARK.values()):
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
    drawn = {image_rng(*triple).integers(2**63) for triple in triples}
    assert len(drawn) == len(triples)


def test_randomness_is_the_same_on_every_day() -> None:
    assert image_rng("icons/a", "gaussian_noise", 3).integers(0, 1000, 4).tolist() == [813, 446, 629, 930]


def test_processes_and_order_change_nothing() -> None:
    images = [picture(40 + number, 64) for number in range(6)]
    keys = [f"key {number}" for number in range(6)]
    for name, workers in (("gaussian_noise", 2), ("frost", 3)):
        alone = corrupt_many(images, name, 4, keys)
        shared = corrupt_many(images[::-1], name, 4, keys[::-1], num_workers=workers)[::-1]
        for one, two, image, key in zip(alone, shared, images, keys, strict=True):
            assert one.tobytes() == two.tobytes() == corrupt(image, name, 4, key).tobytes()


def test_none_gives_none() -> None:
    assert corrupt_many([], "fog", 1, [], num_workers=2) == []


def test_a_view_of_a_larger_picture_is_fine() -> None:
    large = picture(128, 128)
    part = large[::2, ::-2]
    for name in NAMES:
        assert (corrupt(part, name, 2, "k") == corrupt(part.copy(), name, 2, "k")).all()


@pytest.mark.parametrize(
    ("change", "kind", "sentence"),
    [
        ({"name": "gausian_noise"}, ConfigError, "did you mean gaussian_noise"),
        ({"severity": 0}, ConfigError, "severity must be .*, not 0"),
        ({"severity": 6}, ConfigError, "from 1 \\(slight\\) to 5"),
        ({"severity": True}, ConfigError, "severity must be .*, not True"),
        ({"severity": 3.0}, ConfigError, "severity must be .*, not 3.0"),
        ({"name": ["snow"]}, ConfigError, "does not exist"),
        ({"severity": "3"}, ConfigError, "severity must be .*, not '3'"),
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
    with pytest.raises(InputError, match="2 images but 1 keys"):
        corrupt_many([picture(), picture()], "snow", 1, ["a"])
    with pytest.raises(ConfigError, match="num_workers must be .*, not 0"):
        corrupt_many([picture()], "snow", 1, ["a"], num_workers=0)
    with pytest.raises(InputError, match="grey"):
        corrupt_many([picture(), np.zeros((64, 64), np.uint8)], "snow", 1, ["a", "b"], num_workers=2)


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


def test_shot_noise_is_poisson() -> None:
    for severity, ((photons,), value) in enumerate(
        zip(PARAMETERS["shot_noise"], (3, 40, 128, 220, 255), strict=True), 1
    ):
        flat = np.full((256, 256, 3), value, np.uint8)
        made = corrupt(flat, "shot_noise", severity, "k").reshape(-1)
        counts = np.arange(photons)
        shares = np.append(stats.poisson.pmf(counts, value / 255 * photons), 0)
        shares[-1] = 1 - shares.sum()
        levels = (np.arange(photons + 1) * 255 / photons + 1e-3).astype(int)
        found = np.bincount(made, minlength=256)
        assert found.sum() == found[levels].sum()
        likely = shares * made.size >= 5
        expected = np.append(shares[likely], 1 - shares[likely].sum()) * made.size
        observed = np.append(found[levels][likely], found[levels][~likely].sum())
        kept = expected > 0.5
        assert stats.chisquare(observed[kept], expected[kept], sum_check=False).pvalue > 1e-4


def test_impulse_noise_replaces_its_share_half_by_black_half_by_white() -> None:
    flat = np.full((256, 256, 3), 100, np.uint8)
    for severity, (share,) in enumerate(PARAMETERS["impulse_noise"], 1):
        made = corrupt(flat, "impulse_noise", severity, "k")
        for level in (0, 255):
            assert stats.binomtest(int((made == level).sum()), made.size, share / 2).pvalue > 1e-4
        assert ((made == 100) | (made == 0) | (made == 255)).all()


def test_glass_blur_jumps_as_the_walk_does() -> None:
    """The walk pixel by pixel is the oracle of the pointers."""
    for height, width, jump in ((17, 23, 1), (24, 16, 2), (20, 20, 4)):
        walked = np.arange(height * width).reshape(height, width)
        draws = Scripted(jump)
        for h in range(height - jump, jump, -1):
            for w in range(width - jump, jump, -1):
                dx, dy = draws.integers(-jump, jump, size=2)
                walked[h, w] = walked[h + dy, w + dx]
        assert (_pixel_sources(height, width, jump, Scripted(jump)).reshape(height, width) == walked).all()


def test_distance_is_that_of_the_cheapest_walk() -> None:
    """Dijkstra over straight, diagonal and knight's steps is the oracle."""
    marked = np.zeros((30, 37), bool)
    marked[3, 4] = marked[20, 30] = marked[21, 5] = True
    steps = [(y, x) for y in range(-2, 3) for x in range(-2, 3) if abs(y) + abs(x) in (1, 3) or abs(y) == abs(x) == 1]
    cost = {1: 1.0, 2: 1.4, 3: 2.1969}
    queue = [(0.0, int(y), int(x)) for y, x in np.argwhere(marked)]
    walked: dict[tuple[int, int], float] = {}
    while queue:
        far, y, x = heapq.heappop(queue)
        if (y, x) in walked or not (0 <= y < 30 and 0 <= x < 37):
            continue
        walked[y, x] = far
        for dy, dx in steps:
            heapq.heappush(queue, (far + cost[abs(dy) + abs(dx)], y + dy, x + dx))
    found = distance(marked)
    for (y, x), far in walked.items():
        assert min(found[y, x], 20) == pytest.approx(min(far, 20), abs=1e-5)


def test_frost_has_five_textures_that_differ_and_never_move() -> None:
    textures = [_texture(number).copy() for number in range(len(TEXTURES))]
    for texture, kind in zip(textures, TEXTURES, strict=True):
        assert texture.mean(axis=(0, 1)) == pytest.approx(kind.colour, abs=4)
        assert texture.min() >= 0
        assert texture.max() <= 255
    assert all(_distance(one, two) > 10 for one, two in combinations(textures, 2))
    # A picture larger than the texture gets an enlarged piece, with the light of the texture.
    piece = random_crop(0, 768, 1024, Scripted())
    assert piece.shape == (768, 1024, 3)
    assert piece.mean() == pytest.approx(textures[0].mean(), abs=3)
    assert random_crop(0, 700, 40, Scripted()).shape == (700, 40, 3)
    _texture.cache_clear()
    assert (_texture(2) == textures[2]).all()


def test_fog_is_a_landscape_between_nothing_and_one() -> None:
    heights = plasma(64, 2.0, Scripted())
    assert (heights.min(), heights.max()) == (0, 1)
    # It continues beyond its edges: the step across them is no larger than those within.
    across = np.abs(heights[0] - heights[-1]).mean()
    assert across < 2 * np.abs(np.diff(heights, axis=0)).mean()


def test_the_sheet_shows_all_of_them(tmp_path: Path) -> None:
    Image.fromarray(picture()).save(tmp_path / "picture.png")
    main([str(tmp_path / "sheet.png"), str(tmp_path / "picture.png")])
    with Image.open(tmp_path / "sheet.png") as drawn:
        assert drawn.height > 19 * 70
        assert len(drawn.convert("RGB").getcolors(1 << 24)) > 100
    with pytest.raises(InputError, match="output file is missing"):
        main([])


def test_the_page_has_the_parameters_of_the_code() -> None:
    page = (Path(__file__).parents[2] / "docs/reference/corruptions.md").read_text("utf-8")
    for name in NAMES:
        line = next(line for line in page.splitlines() if line.startswith(f"| `{name}`"))
        row = [cell.strip() for cell in line.strip("|").split("|")][-5:]
        assert row == [", ".join(f"{number:g}" for number in numbers) for numbers in PARAMETERS[name]], name


@pytest.mark.parametrize("level", [0, 255])
@pytest.mark.parametrize("name", NAMES)
def test_black_and_white_pictures_are_pictures_too(name: str, level: int) -> None:
    """Warnings are errors here: nothing divides by the light of a black picture."""
    flat = np.full((40, 48, 3), level, np.uint8)
    for severity in SEVERITIES:
        assert corrupt(flat, name, severity, "k").shape == flat.shape
