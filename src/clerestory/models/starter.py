"""The models that are part of Clerestory; the starter: a trained one, for search and captions of drawings.

It is an ordinary model folder; ``apps.starter`` handles the evidence beside it. ``clerestory train --data pictograms
--preset small`` trains a similar model.
"""

from __future__ import annotations

from importlib.resources import files
from pathlib import Path

STARTER = "starter"  # for drawings
PHOTOS = "photos"  # for photographs; ``models.photo`` makes its folder


def starter_folder() -> Path:
    """The model folder."""
    return Path(str(files("clerestory"))) / STARTER / "model"
