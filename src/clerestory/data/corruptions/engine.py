"""``corrupt``: one image or many, reproducible to the byte with any number of processes."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor
from itertools import repeat
from multiprocessing import get_context
from types import MappingProxyType

import numpy as np

from clerestory.core.errors import ConfigError, InputError, closest
from clerestory.data.corruptions import blur, digital, noise, spatter, weather
from clerestory.data.corruptions.arrays import Bytes, Corruption
from clerestory.data.corruptions.parameters import MIN_SIDE, NAMES, SEVERITIES

CORRUPTIONS: Mapping[str, Corruption] = MappingProxyType(
    {
        "gaussian_noise": noise.gaussian_noise,
        "shot_noise": noise.shot_noise,
        "impulse_noise": noise.impulse_noise,
        "defocus_blur": blur.defocus_blur,
        "glass_blur": blur.glass_blur,
        "motion_blur": blur.motion_blur,
        "zoom_blur": blur.zoom_blur,
        "snow": weather.snow,
        "frost": weather.frost,
        "fog": weather.fog,
        "brightness": digital.brightness,
        "contrast": digital.contrast,
        "elastic_transform": digital.elastic_transform,
        "pixelate": digital.pixelate,
        "jpeg_compression": digital.jpeg_compression,
        "speckle_noise": noise.speckle_noise,
        "gaussian_blur": blur.gaussian_blur,
        "spatter": spatter.spatter,
        "saturate": digital.saturate,
    }
)


def corrupt(image: Bytes, name: str, severity: int, key: str = "") -> Bytes:
    """Apply one corruption to an image.

    Args:
        image: (H, W, 3) uint8 RGB, at least 32×32 pixels; not modified.
        name: one of ``NAMES``.
        severity: 1 (slight) to 5 (severe).
        key: seeds the random generator, usually the id of the image: equal keys give equal noise.

    Returns:
        (H, W, 3) uint8, a new array.

    Raises:
        ConfigError: unknown corruption or severity.
        InputError: the array is not a colour image of a sufficient size.
    """
    _check_condition(name, severity)
    _check_image(image)
    return CORRUPTIONS[name](np.ascontiguousarray(image), severity, image_rng(key, name, severity))


def corrupt_many(
    images: Sequence[Bytes], name: str, severity: int, keys: Sequence[str], num_workers: int = 1
) -> list[Bytes]:
    """Apply one corruption to several images; the result is that of ``corrupt`` for each, in order.

    Args:
        images: the images; sizes may differ.
        name: one of ``NAMES``.
        severity: 1 to 5.
        keys: one for each image.
        num_workers: the number of processes; the result does not depend on it. Starting them takes about a second, so
            more than one pays off for hundreds of images.

    Raises:
        ConfigError: unknown corruption or severity, or fewer than one worker.
        InputError: the number of keys differs from that of the images, or an image is invalid.
    """
    _check_condition(name, severity)
    if len(images) != len(keys):
        raise InputError(f"there are {len(images)} images but {len(keys)} keys", "give one key for each image")
    if num_workers < 1:
        raise ConfigError(f"num_workers must be 1 or more, not {num_workers}")
    for image in images:
        _check_image(image)
    if num_workers == 1 or len(images) < 2:
        return [corrupt(image, name, severity, key) for image, key in zip(images, keys, strict=True)]
    # Spawned, not forked: a fork of a process whose threads hold locks may deadlock.
    with ProcessPoolExecutor(min(num_workers, len(images)), mp_context=get_context("spawn")) as pool:
        chunk = max(1, len(images) // (4 * num_workers))
        return list(pool.map(corrupt, images, repeat(name), repeat(severity), keys, chunksize=chunk))


def image_rng(key: str, name: str, severity: int) -> np.random.Generator:
    """The random generator of one image under one corruption; it depends on these three values only."""
    parts = (key.encode("utf-8", "surrogatepass"), name.encode(), str(severity).encode())
    # Each part is preceded by its length, so that different triples never give the same bytes.
    seed_bytes = b"".join(len(part).to_bytes(8, "little") + part for part in parts)
    digest = hashlib.sha256(seed_bytes).digest()
    return np.random.Generator(np.random.Philox(key=int.from_bytes(digest[:16], "little")))


def _check_condition(name: str, severity: int) -> None:
    if not isinstance(name, str) or name not in CORRUPTIONS:
        fix = f"known: {', '.join(NAMES)}"
        raise ConfigError(f"the corruption {name!r} does not exist", fix, closest(str(name), NAMES))
    is_integer = isinstance(severity, int | np.integer) and not isinstance(severity, bool)
    if not is_integer or severity not in SEVERITIES:
        raise ConfigError(f"severity must be an integer from 1 (slight) to 5 (severe), not {severity!r}")


def _check_image(image: Bytes) -> None:
    if not isinstance(image, np.ndarray) or image.dtype != np.uint8:
        kind = image.dtype if isinstance(image, np.ndarray) else type(image).__name__
        raise InputError(f"an image must be an array of uint8, not {kind}", "use np.asarray(image.convert('RGB'))")
    if image.ndim == 2 or (image.ndim == 3 and image.shape[2] == 1):
        raise InputError("the image is greyscale, and corruptions need RGB", "repeat its channel three times")
    if image.ndim == 3 and image.shape[2] == 4:
        raise InputError("the image has transparency (RGBA)", "composite it on white and pass its three RGB channels")
    if image.ndim != 3 or image.shape[2] != 3:
        raise InputError(f"an image must have the shape (height, width, 3), not {image.shape}")
    height, width = image.shape[:2]
    if min(height, width) < MIN_SIDE:
        raise InputError(
            f"the image has {width}×{height} pixels, and corruptions need at least {MIN_SIDE}×{MIN_SIDE}",
            f"enlarge its shorter side to {MIN_SIDE} pixels",
        )
