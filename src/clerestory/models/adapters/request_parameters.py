"""The parameters of chat requests that an endpoint accepts, learnt from its refusals.

Endpoints differ: newer models of OpenAI call ``max_tokens`` ``max_completion_tokens`` and accept no ``temperature``,
others report fewer ``top_logprobs``. A request that is refused for such a parameter is adapted and sent again.
"""

from __future__ import annotations

import threading
from collections.abc import Mapping
from typing import Any

from clerestory.models.adapters.http_client import HttpReply

RENAMED = {"max_tokens": "max_completion_tokens"}
OPTIONAL = ("temperature",)  # without it the endpoint samples with a default of its own
REFUSED = (400, 422)  # statuses of a request with a parameter that is not accepted


class RequestParameters:
    """What has been learnt about one endpoint; thread-safe.

    Requests run concurrently, so a refusal is judged against the request that was sent, not against what has been
    learnt in the meantime.
    """

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._renamed: set[str] = set()
        self._dropped: set[str] = set()
        self._limits: dict[str, int] = {}

    @property
    def dropped(self) -> tuple[str, ...]:
        """The parameters that are no longer sent, in order."""
        with self._lock:
            return tuple(sorted(self._dropped))

    @property
    def limits(self) -> dict[str, int]:
        """The parameters that were lowered, and to what."""
        with self._lock:
            return dict(self._limits)

    def adapt(self, body: Mapping[str, Any]) -> dict[str, Any]:
        """A request with the parameters as this endpoint accepts them."""
        with self._lock:
            adapted = {RENAMED[name] if name in self._renamed else name: value for name, value in body.items()}
            for name in self._dropped:
                adapted.pop(name, None)
            for name, limit in self._limits.items():
                if name in adapted:
                    adapted[name] = min(adapted[name], limit)
        return adapted

    def learn(self, sent: Mapping[str, Any], reply: HttpReply) -> bool:
        """Learn from a refused request; whether ``adapt`` now gives another one."""
        if reply.status not in REFUSED:
            return False
        refusal = f"{reply.parameter} {reply.error}"
        for old, new in RENAMED.items():
            if old in sent and new in refusal:
                with self._lock:
                    self._renamed.add(old)
                return True
        if "top_logprobs" in sent and "top_logprobs" in refusal and sent["top_logprobs"] > 1:
            with self._lock:
                lower = sent["top_logprobs"] // 2
                self._limits["top_logprobs"] = min(lower, self._limits.get("top_logprobs", lower))
            return True
        refused = next((name for name in OPTIONAL if name in sent and name in refusal), None)
        if refused is None:
            return False
        with self._lock:
            self._dropped.add(refused)
        return True
