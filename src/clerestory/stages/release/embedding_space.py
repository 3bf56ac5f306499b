"""Whether search indexes that others have made of the embeddings still work with another release.

The pages build their index for each loaded model, so a promotion never breaks them. Who calls ``POST /v1/embeddings``
may keep the vectors in an index of their own, and a query that is embedded by a model with another space finds nothing
useful there, without any error. The request log shows whether anybody has called it.
"""

from __future__ import annotations

import time

from clerestory.core.errors import Refused, Undecided
from clerestory.core.release import Release
from clerestory.core.units import plural
from clerestory.store import Store
from clerestory.store.operations.golden_outputs import read_golden, space_difference
from clerestory.store.operations.prediction import RequestKind
from clerestory.store.operations.predictions import PredictionFilter, count_predictions

CLIENT_DAYS = 90  # an index whose owner has not embedded anything for longer does not count
_OPTION = "--new-space"


def check_embedding_space(store: Store, live: Release, new: Release) -> None:
    """Refuse a release whose embeddings do not fit the indexes that clients have made with the live one.

    Raises:
        Refused: they do not fit.
        Undecided: that has not been measured.
    """
    if live.model == new.model or not (requests := embedding_requests(store, live)):
        return
    count = f"{plural(requests, 'request')} for embeddings to {live.ref} in the last {CLIENT_DAYS} days"
    old_outputs, new_outputs = read_golden(store, live.model), read_golden(store, new.model)
    if old_outputs is None or new_outputs is None:
        missing = live if old_outputs is None else new
        raise Undecided(
            f"there were {count}, and whether the embeddings of {new.ref} fit indexes made of them was not measured",
            f"clerestory release golden {missing.ref}; or add {_OPTION} if these indexes are made again",
        )
    if difference := space_difference(old_outputs, new_outputs):
        raise Refused(
            f"{new.ref} would break search indexes without any error: there were {count}, and {difference}",
            f"add {_OPTION}: {live.ref} stays in memory as previous, and a client that names it as its model is "
            "answered by it until its index is made again",
        )


def embedding_requests(store: Store, release: Release) -> int:
    """How many requests for embeddings a release has answered lately, by the request log."""
    store.database.ensure_operations()
    wanted = PredictionFilter(
        name=release.name,
        number=release.number,
        kind=RequestKind.EMBEDDINGS,
        since=time.time() - CLIENT_DAYS * 86_400,
    )
    with store.database.reading() as connection:
        return count_predictions(connection, wanted)
