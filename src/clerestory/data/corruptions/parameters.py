"""The names of the corruptions, their families, and the parameters of each severity."""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType

SEVERITIES = (1, 2, 3, 4, 5)
MIN_SIDE = 32
"""The minimum side of an image, in pixels."""

FAMILIES: Mapping[str, tuple[str, ...]] = MappingProxyType(
    {
        "noise": ("gaussian_noise", "shot_noise", "impulse_noise"),
        "blur": ("defocus_blur", "glass_blur", "motion_blur", "zoom_blur"),
        "weather": ("snow", "frost", "fog", "brightness"),
        "digital": ("contrast", "elastic_transform", "pixelate", "jpeg_compression"),
        "extra": ("speckle_noise", "gaussian_blur", "spatter", "saturate"),
    }
)
"""The fifteen corruptions of the benchmark in four families, then the four that its authors reserve for validation."""

NAMES: tuple[str, ...] = tuple(name for family in FAMILIES.values() for name in family)

PARAMETERS: Mapping[str, tuple[tuple[float, ...], ...]] = MappingProxyType(
    {
        # standard deviation, of the range 0..1
        "gaussian_noise": ((0.08,), (0.12,), (0.18,), (0.26,), (0.38,)),
        # photons at full white
        "shot_noise": ((60,), (25,), (12,), (5,), (3,)),
        # share of the values replaced
        "impulse_noise": ((0.03,), (0.06,), (0.09,), (0.17,), (0.27,)),
        # radius of the disk, sigma that softens its edge
        "defocus_blur": ((3, 0.1), (4, 0.5), (6, 0.5), (8, 0.5), (10, 0.5)),
        # sigma, farthest jump, rounds
        "glass_blur": ((0.7, 1, 2), (0.9, 2, 1), (1, 2, 3), (1.1, 3, 2), (1.5, 4, 2)),
        # radius, sigma
        "motion_blur": ((10, 3), (15, 5), (15, 8), (15, 12), (20, 15)),
        # largest zoom (not reached), step
        "zoom_blur": ((1.11, 0.01), (1.16, 0.01), (1.21, 0.02), (1.26, 0.02), (1.31, 0.03)),
        # mean and std of the flakes, zoom, threshold, radius and sigma of their fall, weight of the image
        "snow": (
            (0.1, 0.3, 3, 0.5, 10, 4, 0.8),
            (0.2, 0.3, 2, 0.5, 12, 4, 0.7),
            (0.55, 0.3, 4, 0.9, 12, 8, 0.7),
            (0.55, 0.3, 4.5, 0.85, 12, 8, 0.65),
            (0.55, 0.3, 2.5, 0.85, 12, 12, 0.55),
        ),
        # weight of the image, weight of the frost
        "frost": ((1, 0.4), (0.8, 0.6), (0.7, 0.7), (0.65, 0.7), (0.6, 0.75)),
        # thickness, decay of the roughness
        "fog": ((1.5, 2), (2, 2), (2.5, 1.7), (2.5, 1.5), (3, 1.4)),
        # added to the value (HSV)
        "brightness": ((0.1,), (0.2,), (0.3,), (0.4,), (0.5,)),
        # remaining share of the contrast
        "contrast": ((0.4,), (0.3,), (0.2,), (0.1,), (0.05,)),
        # strength of the displacement
        "elastic_transform": ((12.5,), (16.25,), (21.25,), (25,), (30,)),
        # remaining share of the resolution
        "pixelate": ((0.6,), (0.5,), (0.4,), (0.3,), (0.25,)),
        # JPEG quality
        "jpeg_compression": ((25,), (18,), (15,), (10,), (7,)),
        # standard deviation, times the value
        "speckle_noise": ((0.15,), (0.2,), (0.35,), (0.45,), (0.6,)),
        # sigma in pixels
        "gaussian_blur": ((1,), (2,), (3,), (4,), (6,)),
        # mean and std of the drops, their sigma, threshold, strength (of water) or softness (of mud), mud or water
        "spatter": (
            (0.65, 0.3, 4, 0.69, 0.6, 0),
            (0.65, 0.3, 3, 0.68, 0.6, 0),
            (0.65, 0.3, 2, 0.68, 0.5, 0),
            (0.65, 0.3, 1, 0.65, 1.5, 1),
            (0.67, 0.4, 1, 0.65, 1.5, 1),
        ),
        # factor and offset of the saturation (HSV)
        "saturate": ((0.3, 0), (0.1, 0), (2, 0), (5, 0.1), (20, 0.2)),
    }
)
"""One tuple of parameters for each severity; the comment above each corruption names them."""
