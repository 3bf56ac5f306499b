"""``corrupt``: one picture or many, the same bytes on any day and with any number of processes."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor
from itertools import repeat
from multiprocessing import get_context
from types import MappingProxyType

import numpy as np

from clerestory.core.errors import ConfigError, InputError, closest
from clerestory.data.corruptions import blur, digital, noise, spattering, weather
from clerestory.data.corruptions.arrays import Bytes, Corruption
from clerestory.data.corruptions.parameters import NAMES, SEVERITIES, SMALLEST

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
        "spatter": spattering.spatter,
        "saturate": digital.saturate,
    }
)


def corrupt(image: Bytes, name: str, severity: int, key: str = "") -> Bytes:
    """A picture gone bad in one way.

    Args:
        image: (H, W, 3) uint8 RGB, at least 32×32 pixels; it is not changed.
        name: one of ``NAMES``.
        severity: 1 (slight) to 5 (severe).
        key: what the randomness hangs on, usually the name of the picture: equal keys give equal noise.

    Returns:
        (H, W, 3) uint8, a new array.

    Raises:
        ConfigError: no such corruption or severity.
        InputError: the array is not a colour picture of a sufficient size.
    """
    _check_condition(name, severity)
    _check_picture(image)
    return CORRUPTIONS[name](np.ascontiguousarray(image), severity, randomness(key, name, severity))


def corrupt_many(
    images: Sequence[Bytes], name: str, severity: int, keys: Sequence[str], workers: int = 1
) -> list[Bytes]:
    """Every picture as ``corrupt`` gives it, in order.

    Args:
        images: the pictures; sizes may differ.
        name: one of ``NAMES``.
        severity: 1 to 5.
        keys: one for each picture.
        workers: how many processes share the work; what comes out does not depend on it. Starting them takes about a
            second, so more than one pays off for hundreds of pictures.

    Raises:
        ConfigError: no such corruption or severity, or fewer than one worker.
        InputError: as many keys as pictures are needed, or a picture is not fit.
    """
    _check_condition(name, severity)
    if len(images) != len(keys):
        raise InputError(f"there are {len(images)} pictures but {len(keys)} keys", "give one key for each picture")
    if workers < 1:
        raise ConfigError(f"workers is {workers}", "give 1 or more")
    for image in images:
        _check_picture(image)
    if workers == 1 or len(images) < 2:
        return [corrupt(image, name, severity, key) for image, key in zip(images, keys, strict=True)]
    # Fresh processes: a fork of one in which other threads hold locks may never end.
    with ProcessPoolExecutor(min(workers, len(images)), mp_context=get_context("spawn")) as pool:
        share = max(1, len(images) // (4 * workers))
        return list(pool.map(corrupt, images, repeat(name), repeat(severity), keys, chunksize=share))


def randomness(key: str, name: str, severity: int) -> np.random.Generator:
    """The source of randomness of one picture under one corruption: nothing else in the world moves it."""
    parts = (key.encode("utf-8", "surrogatepass"), name.encode(), str(severity).encode())
    # Lengths first, so that no two triples are written alike.
    written = b"".join(len(part).to_bytes(8, "little") + part for part in parts)
    found = hashlib.sha256(written).digest()
    return np.random.Generator(np.random.Philox(key=int.from_bytes(found[:16], "little")))


def _check_condition(name: str, severity: int) -> None:
    if not isinstance(name, str) or name not in CORRUPTIONS:
        fix = f"known: {', '.join(NAMES)}"
        raise ConfigError(f"there is no corruption named {name!r}", fix, closest(str(name), NAMES))
    whole = isinstance(severity, int | np.integer) and not isinstance(severity, bool)
    if not whole or severity not in SEVERITIES:
        raise ConfigError(f"severity is {severity!r}", "give a whole number from 1 (slight) to 5 (severe)")


def _check_picture(image: Bytes) -> None:
    if not isinstance(image, np.ndarray) or image.dtype != np.uint8:
        kind = image.dtype if isinstance(image, np.ndarray) else type(image).__name__
        raise InputError(f"a picture must be an array of uint8, not {kind}", "use np.asarray(picture.convert('RGB'))")
    if image.ndim == 2 or (image.ndim == 3 and image.shape[2] == 1):
        raise InputError("the picture is grey, and corruptions need colour", "repeat its channel three times")
    if image.ndim == 3 and image.shape[2] == 4:
        raise InputError("the picture has transparency (RGBA)", "lay it on white and give the three channels of RGB")
    if image.ndim != 3 or image.shape[2] != 3:
        raise InputError(f"a picture must have the shape (height, width, 3), not {image.shape}")
    height, width = image.shape[:2]
    if min(height, width) < SMALLEST:
        raise InputError(
            f"the picture has {width}×{height} pixels, and corruptions need {SMALLEST}×{SMALLEST} or more",
            f"enlarge it so that its shorter side has {SMALLEST} pixels",
        )
