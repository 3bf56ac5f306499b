"""The admission of a request: from here on its version is bound, whatever happens to the aliases."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

import numpy as np
from numpy.typing import NDArray

from clerestory.stages.serve.shadow import ShadowRun
from clerestory.store.operations.prediction import RequestKind, new_response_id
from clerestory.web.loaded_model import LoadedModel
from clerestory.web.request_trace import RequestTrace
from clerestory.web.state import ServerState


def admit(
    server: ServerState,
    trace: RequestTrace,
    kind: RequestKind,
    user: object = "",
    model: object = "",
    can_answer: Callable[[LoadedModel], bool] | None = None,
) -> LoadedModel:
    """Bind a request to the live release, to the candidate of a rollout, or to the resident release that it names.

    Args:
        server: that received it.
        trace: the record of the request.
        kind: what it asks for.
        user: who asks, by the field ``user`` or the header ``Clerestory-User``; the same person stays with one release.
        model: the reference in the request.
        can_answer: whether a candidate has what the request needs; a search needs its index if None.

    Raises:
        RequestRejected: 503, no model is loaded yet.
    """
    subject = server.follower.subject(user) if isinstance(user, str) else ""
    trace.response = trace.response or new_response_id()
    if can_answer is None and kind is RequestKind.SEARCH:
        can_answer = _can_search(server)
    lease = server.follower.admit(subject, trace.response, model if isinstance(model, str) else "", can_answer)
    trace.bind(kind, *lease)
    if subject:
        trace.describe(subject=subject)
    return lease.loaded


def _can_search(server: ServerState) -> Callable[[LoadedModel], bool]:
    """Whether a candidate has an index: of a dataset each release has its own, of a folder only the live one."""
    return lambda loaded: server.library is None and loaded.searcher is not None


def offer_shadow(
    server: ServerState, loaded: LoadedModel, inputs: Sequence[str | bytes], rows: NDArray[np.float32]
) -> None:
    """Let the candidate of a shadow rollout embed what the live release has just embedded."""
    follower = server.follower
    rollout = follower.router.rollout if follower.router is not None else None
    if rollout is None or not rollout.plan.shadow or loaded.number != rollout.stable:
        return
    candidate = follower.resident(rollout.candidate)
    if candidate is None or candidate.embedder is None:
        return
    if server.shadow is None:
        hash_of = server.request_log.hash_of
        server.shadow = ShadowRun(
            server.store, follower.server_id, server.queue, server.batcher, lambda content: hash_of("input", content)
        )
    server.shadow.offer(rollout, candidate.embedder, inputs, rows)


def caller_of(body: object, headers: Mapping[str, str]) -> tuple[object, object]:
    """Who sends a request, by its field ``user`` or the header ``Clerestory-User``, and the model that it names."""
    values = body if isinstance(body, dict) else {}
    return values.get("user") or headers.get("clerestory-user", ""), values.get("model")
