"""What a drift monitor compares: one record per request or image, and a reference of many."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from clerestory.core.codec import Tags

Embeddings = NDArray[np.float32]

EMBEDDING = "embedding"
ALL = "all"  # the slice of all traffic
# The columns that are watched by their name. Others are named in the settings.
NUMBERS = (
    "brightness",
    "contrast",
    "width",
    "height",
    "pixels",
    "characters",
    "confidence",
    "score",
    "inputs",
    "images",
)
CATEGORIES = ("label", "language", "zero_match", "kind")


@dataclass(frozen=True, slots=True)
class DriftObservation:
    """One observation.

    Attributes:
        id: names the image or the response.
        at: seconds since the epoch; None without a time.
        subject: whose it is; empty if that is not known.
        embedding: (E); None if it has none.
        numbers: by name; NaN if missing.
        categories: by name; empty if missing.
    """

    id: str
    at: float | None = None
    subject: str = ""
    embedding: Embeddings | None = None
    numbers: Mapping[str, float] = field(default_factory=dict)
    categories: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class ObservationTable:
    """N observations as columns.

    Attributes:
        ids: of the observations.
        embeddings: (N, E), finite; None without.
        numbers: columns of numbers by name; NaN where a value is missing.
        categories: columns of texts by name; empty where a value is missing.
        times: seconds since the epoch, in increasing order; None without.
        subjects: whose they are; empty texts where that is not known.
        left_out: how many rows were left out, by the reason in words.
        notes: what else was noticed while reading, one sentence each.
        name: of the source, for people.
        identity: the digests of the data and of the model that embedded it, where they are known.
    """

    ids: Sequence[str]
    embeddings: Embeddings | None = None
    numbers: Mapping[str, NDArray[np.float64]] = field(default_factory=dict)
    categories: Mapping[str, Sequence[str]] = field(default_factory=dict)
    times: NDArray[np.float64] | None = None
    subjects: Sequence[str] = ()
    left_out: Mapping[str, int] = field(default_factory=dict)
    notes: tuple[str, ...] = ()
    name: str = ""
    identity: Tags = field(default_factory=Tags)

    def __len__(self) -> int:
        return len(self.ids)

    @property
    def columns(self) -> tuple[str, ...]:
        """The names of everything that can be watched."""
        return ((EMBEDDING,) if self.embeddings is not None else ()) + (*self.numbers, *self.categories)

    def observations(self) -> Iterator[DriftObservation]:
        """One by one, in order."""
        for i, name in enumerate(self.ids):
            yield DriftObservation(
                name,
                float(self.times[i]) if self.times is not None else None,
                self.subjects[i] if self.subjects else "",
                self.embeddings[i] if self.embeddings is not None else None,
                {column: float(values[i]) for column, values in self.numbers.items()},
                {column: values[i] for column, values in self.categories.items()},
            )

    def take(self, rows: NDArray[np.int64]) -> ObservationTable:
        """Some of the observations."""
        places = rows.tolist()
        return ObservationTable(
            [self.ids[i] for i in places],
            self.embeddings[rows] if self.embeddings is not None else None,
            {name: values[rows] for name, values in self.numbers.items()},
            {name: [values[i] for i in places] for name, values in self.categories.items()},
            self.times[rows] if self.times is not None else None,
            [self.subjects[i] for i in places] if self.subjects else (),
            name=self.name,
            identity=self.identity,
        )
