"""Data sets to one Parquet file that opens with the same digest anywhere."""

from __future__ import annotations

from pathlib import Path

from clerestory.core.sample import Dataset
from clerestory.data import parquet


def save_parquet(dataset: Dataset, path: str | Path) -> Path:
    """Write a data set, pictures included, so that ``open_data(path)`` gives the same digest.

    The file appears whole or not at all; ``path`` gets the ending ``.parquet`` where it has none. Beside it a small
    ``.json`` file keeps the digests, which makes opening it again quick.
    """
    place = Path(path)
    if place.suffix != ".parquet":
        place = place.with_name(place.name + ".parquet")
    parquet.write(dataset, place)
    return place
