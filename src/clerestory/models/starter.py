"""The starter: the trained model that is part of the package, for search and captions without training one.

It is an ordinary model folder; ``apps.starter`` handles the evidence beside it. ``clerestory train --data pictograms
--preset small`` trains a similar model.
"""

from __future__ import annotations

from importlib.resources import files
from pathlib import Path

STARTER = "starter"


def starter_folder() -> Path:
    """The model folder."""
    return Path(str(files("clerestory"))) / STARTER / "model"
