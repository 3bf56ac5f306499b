"""The admission of a request: from here on its version is bound, whatever happens to the aliases."""

from __future__ import annotations

from collections.abc import Mapping

from clerestory.store.operations.prediction import RequestKind, new_response_id
from clerestory.web.loaded_model import LoadedModel
from clerestory.web.request_trace import RequestTrace
from clerestory.web.state import ServerState


def admit(
    server: ServerState, trace: RequestTrace, kind: RequestKind, user: object = "", model: object = ""
) -> LoadedModel:
    """Bind a request to the live release, to the candidate of a rollout, or to the resident release that it names.

    Args:
        server: that received it.
        trace: the record of the request.
        kind: what it asks for.
        user: who asks, by the field ``user`` or the header ``Clerestory-User``; the same person stays with one release.
        model: the reference in the request.

    Raises:
        RequestRejected: 503, no model is loaded yet.
    """
    subject = server.follower.subject(user) if isinstance(user, str) else ""
    trace.response = trace.response or new_response_id()
    lease = server.follower.admit(subject, trace.response, model if isinstance(model, str) else "")
    trace.bind(kind, *lease)
    if subject:
        trace.describe(subject=subject)
    return lease.loaded


def caller_of(body: object, headers: Mapping[str, str]) -> tuple[object, object]:
    """Who sends a request, by its field ``user`` or the header ``Clerestory-User``, and the model that it names."""
    values = body if isinstance(body, dict) else {}
    return values.get("user") or headers.get("clerestory-user", ""), values.get("model")
