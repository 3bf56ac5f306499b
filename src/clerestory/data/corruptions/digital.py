"""Digital processing: contrast, elastic deformation, pixelation, JPEG; and colour: brightness, saturation."""

from __future__ import annotations

import io
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from clerestory.data.corruptions.arrays import Bytes, Floats, gaussian, lookup, repeat_channels, to_bytes
from clerestory.data.corruptions.parameters import PARAMETERS


def contrast(image_HWC: Bytes, severity: int, rng: np.random.Generator) -> Bytes:
    """Every channel moves towards its mean."""
    (factor,) = PARAMETERS["contrast"][severity - 1]
    means_C = image_HWC.mean(axis=(0, 1), dtype=np.float64)
    table_CV = (np.arange(256.0) - means_C[:, None]) * factor + means_C[:, None]
    tables = np.zeros((256, 256), np.uint8)
    tables[:3] = to_bytes(table_CV)
    return lookup(tables, np.arange(3, dtype=np.uint8), image_HWC)


def brightness(image_HWC: Bytes, severity: int, rng: np.random.Generator) -> Bytes:
    """A higher value in HSV; hue and saturation are unchanged, so all channels grow by one factor."""
    return lookup(_brightness_table(severity), repeat_channels(_max_channel(image_HWC)), image_HWC)


def _max_channel(image_HWC: Bytes) -> Bytes:
    """(H, W) the largest channel of each pixel."""
    largest: Bytes = np.maximum(np.maximum(image_HWC[..., 0], image_HWC[..., 1]), image_HWC[..., 2])
    return largest


@lru_cache(maxsize=5)
def _brightness_table(severity: int) -> Bytes:
    """(256, 256) the new value of a channel, by the largest channel of its pixel and its old value."""
    (added,) = PARAMETERS["brightness"][severity - 1]
    largest = np.arange(256.0)[:, None]
    value = np.minimum(largest / 255 + added, 1) * 255
    factor = value / np.maximum(largest, 1)
    table = np.arange(256.0) * factor
    table[0] = value[0]  # black has no colour: it becomes grey
    return to_bytes(table)


def saturate(image_HWC: Bytes, severity: int, rng: np.random.Generator) -> Bytes:
    """Less or more saturation in HSV: channels move towards or away from the largest one."""
    _, offset = PARAMETERS["saturate"][severity - 1]
    largest = _max_channel(image_HWC)
    smallest = np.minimum(np.minimum(image_HWC[..., 0], image_HWC[..., 1]), image_HWC[..., 2])
    factor = _lookup_factor(_saturation_table(severity), largest, smallest)
    value = repeat_channels(largest)
    out: Floats = (image_HWC - value.astype(np.float32)) * repeat_channels(factor)
    out += value
    if offset:
        # A grey pixel has the hue 0, red; added saturation therefore appears as red.
        grey = largest == smallest
        out[grey, 1:] = (largest[grey] * np.float32(1 - offset))[:, None]
    return to_bytes(out)


@lru_cache(maxsize=5)
def _saturation_table(severity: int) -> Floats:
    """(256, 256) the factor of the saturation, by the largest and the smallest channel of a pixel."""
    factor, offset = PARAMETERS["saturate"][severity - 1]
    largest, smallest = np.arange(256.0)[:, None], np.arange(256.0)
    before = np.clip(1 - smallest / np.maximum(largest, 1), 0, 1)
    after = np.clip(before * factor + offset, 0, 1)
    growth: Floats = np.divide(after, before, out=np.ones((256, 256)), where=before > 0).astype(np.float32)
    return growth


def _lookup_factor(table: Floats, rows_HW: Bytes, columns_HW: Bytes) -> Floats:
    """``table[rows, columns]`` of a 256×256 table."""
    index = np.left_shift(rows_HW, 8, dtype=np.uint16) | columns_HW
    factor: Floats = table.reshape(-1).take(index)
    return factor


def pixelate(image_HWC: Bytes, severity: int, rng: np.random.Generator) -> Bytes:
    """A low resolution, enlarged again."""
    (scale,) = PARAMETERS["pixelate"][severity - 1]
    height, width = image_HWC.shape[:2]
    small = Image.fromarray(image_HWC).resize((int(width * scale), int(height * scale)), Image.Resampling.BOX)
    return np.array(small.resize((width, height), Image.Resampling.NEAREST))


def jpeg_compression(image_HWC: Bytes, severity: int, rng: np.random.Generator) -> Bytes:
    """JPEG compression of low quality."""
    (quality,) = PARAMETERS["jpeg_compression"][severity - 1]
    file = io.BytesIO()
    Image.fromarray(image_HWC).save(file, "JPEG", quality=int(quality))
    file.seek(0)
    with Image.open(file, formats=["JPEG"]) as decoded:
        return np.array(decoded)


def elastic_transform(image_HWC: Bytes, severity: int, rng: np.random.Generator) -> Bytes:
    """A smooth random displacement of every pixel."""
    (strength,) = PARAMETERS["elastic_transform"][severity - 1]
    height, width = image_HWC.shape[:2]
    limit = height * 0.005
    sigma = (height * 0.01, width * 0.01)
    offsets = []
    for _ in range(2):
        offset = rng.uniform(-limit, limit, size=(height, width)).astype(np.float32)
        offset = gaussian(offset, sigma, truncate=3, mode="reflect")
        offset *= np.float32(strength)
        offsets.append(offset)
    dx_HW, dy_HW = offsets
    dx_HW += np.arange(width, dtype=np.float32)
    dy_HW += np.arange(height, dtype=np.float32)[:, None]
    return _bilinear_sample(image_HWC, dy_HW, dx_HW)


def _bilinear_sample(image_HWC: Bytes, y_HW: Floats, x_HW: Floats) -> Bytes:
    """The image at fractional positions, bilinearly; it is mirrored beyond its edge."""
    height, width = image_HWC.shape[:2]
    # Four bytes per pixel, so that one pixel is read as one number.
    padded = np.zeros((height, width, 4), np.uint8)
    padded[..., :3] = image_HWC
    pixels = padded.view(np.uint32).reshape(-1)
    top, left = np.floor(y_HW), np.floor(x_HW)
    down, right = (y_HW - top)[..., None], (x_HW - left)[..., None]
    rows = [_mirror(top.astype(np.int32) + step, height) * width for step in (0, 1)]
    columns = [_mirror(left.astype(np.int32) + step, width) for step in (0, 1)]
    row_values = []
    for row in rows:
        near, far = (
            pixels.take(row + column).reshape(-1, 1).view(np.uint8).reshape(padded.shape).astype(np.float32)
            for column in columns
        )
        far -= near
        far *= right
        near += far
        row_values.append(near)
    row_values[1] -= row_values[0]
    row_values[1] *= down
    row_values[0] += row_values[1]
    return to_bytes(np.ascontiguousarray(row_values[0][..., :3]))


def _mirror(position: NDArray[np.int32], size: int) -> NDArray[np.int32]:
    """Positions beyond the edge, mirrored with the edge pixel itself repeated: -1 is 0, ``size`` is ``size - 1``."""
    position = np.where(position < 0, -1 - position, position)
    return np.clip(np.where(position >= size, 2 * size - 1 - position, position), 0, size - 1)
