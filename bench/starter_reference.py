"""Measure the reference of the starter again: how its training images look, and the calibration of its captions.

It is ``src/clerestory/starter/reference.json``, which the warnings about unlike images and the confidence of captions
use. The script fetches pictograms, measures as for any other model, and compares the result with the file; with
``--write`` it replaces the file.
"""

from __future__ import annotations

import sys
import tempfile
from pathlib import Path

from rich.console import Console

from clerestory.apps.training_reference import measure_reference, starter_reference
from clerestory.cli.output import Output
from clerestory.core.digest import canonical
from clerestory.data import open_data
from clerestory.models import open_reference
from clerestory.models.starter import starter_folder
from clerestory.store import open_store


def main() -> int:
    out, console = Output(), Console(highlight=False)
    path = starter_folder().with_name("reference.json")
    packaged = starter_reference()
    with tempfile.TemporaryDirectory() as home:  # nothing cached: everything is measured
        data = open_data("pictograms", out)
        measured = measure_reference(open_reference("starter"), data, open_store(Path(home)), out)
    if "--write" in sys.argv:
        path.write_bytes(canonical(measured))
        console.print(f"wrote {path}")
        return 0
    same = {
        "model": packaged is not None and packaged.model == measured.model,
        "training images": packaged is not None and packaged.images == measured.images,
        "captions": packaged is not None and packaged.captions == measured.captions,
    }
    for name, equal in same.items():
        console.print(f"{name}: {'the same as' if equal else 'NOT the same as'} in {path.name}")
    return 0 if all(same.values()) else 1


if __name__ == "__main__":
    sys.exit(main())
