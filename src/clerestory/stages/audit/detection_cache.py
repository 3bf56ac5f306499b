"""Detections kept in the answer cache: the same audit compares nothing twice.

They are kept as JSON under a key of everything that they depend on: data, settings, code.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import fields
from typing import Any

from clerestory.core.codec import Tags
from clerestory.core.digest import canonical
from clerestory.core.findings import finding_codes
from clerestory.stages.audit.detection import Detection
from clerestory.store.answer_cache import AnswerCache, answer_key


def cached_detections(cache: AnswerCache, check: Callable[[], list[Detection]], *depends_on: str) -> list[Detection]:
    """The detections of ``check``, which runs only if they are not in the cache.

    Args:
        cache: of the store.
        check: makes the detections.
        depends_on: everything that they depend on: digests of the data, of settings, and of the code.
    """
    key = answer_key("detections", *depends_on)
    known = cache.get([key])
    if key in known:
        return [_decode(each) for each in json.loads(known[key])]
    detections = check()
    cache.put({key: canonical([_encode(each) for each in detections])})
    return detections


def _encode(detection: Detection) -> dict[str, Any]:
    stored = {field.name: getattr(detection, field.name) for field in fields(Detection)}
    return stored | {"code": detection.code.code, "notes": dict(detection.notes)}


def _decode(stored: dict[str, Any]) -> Detection:
    return Detection(
        **stored
        | {
            "code": finding_codes()[stored["code"]],
            "samples": tuple(stored["samples"]),
            "groups": tuple(map(tuple, stored["groups"])),
            "notes": Tags(stored["notes"]),
        }
    )
