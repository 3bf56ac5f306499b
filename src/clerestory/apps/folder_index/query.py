"""A query of several parts: words, images, and words to avoid, each with a weight; and how words are written."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from clerestory.core.errors import CapabilityError, InputError

Matrix = NDArray[np.float32]
WITHOUT_WEIGHT = 0.5  # of words to avoid, against 1 for the words to find

MAX_QUERY_LENGTH = 300  # characters; what is longer is cut, and said to be
_AVOIDED = re.compile(r'(?:^|(?<=\s))-(?:"([^"]+)"|([^\s"-]\S*))')


class QueryWords(NamedTuple):
    """The words of a query as a person writes them: ``beach -people -"street lamp"``.

    Attributes:
        text: all of it, with single spaces, cut to ``MAX_QUERY_LENGTH``.
        words: to find; may be empty.
        without: to avoid: each word after a minus, or several words in quotes.
        problem: one sentence if something was cut off; else empty.
    """

    text: str
    words: str
    without: tuple[str, ...]
    problem: str = ""


def parse_query(text: str) -> QueryWords:
    """The words to find and those to avoid, on the pages and on the command line alike."""
    whole = " ".join(text.split())
    kept = whole[:MAX_QUERY_LENGTH].rstrip()
    problem = ""
    if len(whole) > len(kept):
        problem = f"the query has {len(whole):,} characters, and only the first {MAX_QUERY_LENGTH} are searched for"
    without = tuple(quoted or word for quoted, word in _AVOIDED.findall(kept))
    return QueryWords(kept, " ".join(_AVOIDED.sub(" ", kept).split()), without, problem)


@dataclass(frozen=True, slots=True)
class QueryPart:
    """One part of a query.

    Attributes:
        embedding: a unit row (D).
        weight: how much it counts; negative for what to avoid.
    """

    embedding: Matrix
    weight: float = 1.0


def compose_query(parts: Sequence[QueryPart]) -> Matrix:
    """The weighted sum of the parts, as a unit row (D); one part of positive weight is itself.

    Raises:
        InputError: there is no part, or none has a positive weight, or the parts cancel out.
        CapabilityError: an embedding is not finite.
    """
    if not any(part.weight > 0 for part in parts):
        raise InputError("the query has nothing to look for", "give words, or an image with --like")
    total = np.sum([part.weight * part.embedding.astype(np.float64) for part in parts], axis=0)
    length = float(np.linalg.norm(total))
    if not np.isfinite(length):
        raise CapabilityError("the embedding of this query is not finite", "use another query or another model")
    if length < 1e-6:
        raise InputError("the parts of the query cancel out", "change one of them, or its weight")
    unit: Matrix = (total / length).astype(np.float32)
    return unit
