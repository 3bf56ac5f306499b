"""Where the model that comes with Clerestory lies, so that search and captions are good in the first minute.

It is an ordinary model folder inside the package; ``apps.starter`` knows the evidence beside it. ``clerestory train
--data pictograms --preset small`` makes one like it.
"""

from __future__ import annotations

from importlib.resources import files
from pathlib import Path

STARTER = "starter"


def starter_folder() -> Path:
    """The folder of its files."""
    return Path(str(files("clerestory"))) / STARTER / "model"
