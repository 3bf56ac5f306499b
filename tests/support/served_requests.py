"""Records of answered requests, as a server makes them."""

from __future__ import annotations

from collections.abc import Sequence

from clerestory.core.codec import Tags
from clerestory.store import Store
from clerestory.store.operations.feedback import Feedback, FeedbackKind, Recorded, add_feedback, check_feedback
from clerestory.store.operations.prediction import Arm, Prediction, RequestKind, new_response_id
from clerestory.store.operations.predictions import add_predictions, row_of

NOW = 1_764_000_000.0  # 24 November 2025
DAY = 86_400.0


def prediction(
    response: str = "",
    *,
    at: float = NOW,
    number: int = 1,
    name: str = "icons",
    arm: Arm = Arm.STABLE,
    **values: object,
) -> Prediction:
    """A prediction; further values by the names of its fields."""
    defaults: dict[str, object] = {"kind": RequestKind.CLASSIFY, "model": "d" * 64, "facts": Tags(language="en")}
    response = response or new_response_id()
    request = str(values.pop("request", f"request-{response}"))
    return Prediction(response, request, at, name=name, number=number, arm=arm, **(defaults | values))  # type: ignore[arg-type]  # of a test


def write_predictions(store: Store, items: Sequence[Prediction]) -> None:
    """Write them to the request log."""
    store.database.ensure_operations()
    with store.database.writing() as connection:
        add_predictions(connection, [row_of(item) for item in items])


def write_feedback(store: Store, items: Sequence[Feedback], now: float = NOW) -> list[Recorded]:
    """Write feedback on them."""
    with store.database.writing() as connection:
        return add_feedback(connection, [check_feedback(item) for item in items], now)


def verdict(response: str, value: str = "right", **values: object) -> Feedback:
    """Whether an answer is right."""
    return Feedback(response, FeedbackKind.VERDICT, value, **values)  # type: ignore[arg-type]  # of a test
