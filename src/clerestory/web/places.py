"""The place of a request in the queue of the model, which it loses when its client is gone."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from starlette.types import Scope

from clerestory.stages.serve.inference_queue import ClientGone, InferenceQueue, Place

ON_CLIENT_GONE = "clerestory.on_client_gone"  # in the scope: registers what is called when the connection is lost


@contextmanager
def occupied(queue: InferenceQueue, scope: Scope, timeout: float | None = None) -> Iterator[Place]:
    """Occupy a place for the length of a block; the model does not compute for a client that has left.

    Args:
        queue: in front of the model.
        scope: of the request.
        timeout: the seconds within which it has to be answered; None is the setting.

    Raises:
        Overloaded: the request is not admitted.
    """
    register = scope.get(ON_CLIENT_GONE)
    with queue.admit(timeout) as place:
        if register is None:  # not by our protocol, which alone knows
            yield place
            return
        register(lambda: place.give_up(ClientGone()))
        try:
            yield place
        finally:
            register(None)
