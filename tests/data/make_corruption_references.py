"""Makes ``corruption_references.zip``: what the package imagecorruptions 1.1.2 makes of the drawn picture.

Run it with a Python that has that package and its needs (it is not needed for the tests)::

    python -m venv peer
    peer/bin/pip install imagecorruptions==1.1.2 "setuptools<81" numpy scipy pillow scikit-image opencv-python-headless
    peer/bin/python tests/data/make_corruption_references.py

Where the package draws random numbers it is handed those of ``corruption_draws.Scripted``, so that its pictures can be
compared pixel by pixel. Three of its corruptions fail with current versions of what it needs; for these, and only
these, the two names that have gone are put back first: ``np.float_``, and ``multichannel`` of
scikit-image's ``gaussian``.
"""

from __future__ import annotations

import io
import sys
import warnings
import zipfile
from pathlib import Path

import numpy as np

warnings.simplefilter("ignore")
HERE = Path(__file__).parent
sys.path.insert(0, str(HERE))

from corruption_draws import Scripted, picture  # noqa: E402 - it lies beside this script, not in a package
from imagecorruptions import corrupt, corruptions  # noqa: E402
from PIL import Image  # noqa: E402

FIXED = (
    "defocus_blur",
    "zoom_blur",
    "brightness",
    "contrast",
    "pixelate",
    "jpeg_compression",
    "gaussian_blur",
    "saturate",
)
DRAWN = ("gaussian_noise", "speckle_noise", "motion_blur", "glass_blur", "snow", "fog", "elastic_transform", "spatter")
DRAWN_SEVERITIES = {"motion_blur": (1, 5), "glass_blur": (1, 3), "elastic_transform": (1, 5), "spatter": (1, 2, 4)}


def main() -> None:
    """Corrupt and write."""
    np.float_ = np.float64
    gaussian = corruptions.gaussian
    corruptions.gaussian = lambda image, sigma=1, multichannel=False, **how: gaussian(
        image, sigma, channel_axis=-1 if multichannel else None, **how
    )
    made = {f"{name}-{severity}": corrupt(picture(), severity, name) for name in FIXED for severity in range(1, 6)}
    for name in DRAWN:
        for severity in DRAWN_SEVERITIES.get(name, (3,)):
            draws = Scripted(severity)
            for each in ("normal", "uniform", "randint"):
                setattr(np.random, each, getattr(draws, each))
            made[f"{name}-{severity}"] = corrupt(picture(), severity, name)
    with zipfile.ZipFile(HERE / "corruption_references.zip", "w") as archive:
        for name, image in made.items():
            file = io.BytesIO()
            Image.fromarray(image).save(file, "PNG", optimize=True)
            archive.writestr(f"{name}.png", file.getvalue())


main()
