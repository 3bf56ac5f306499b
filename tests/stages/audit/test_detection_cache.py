"""Detections that are kept are those that were made, and belong to one key."""

from __future__ import annotations

from pathlib import Path

from hypothesis import given
from hypothesis import strategies as st

from clerestory.core.codec import Tags
from clerestory.stages.audit.detection import Detection
from clerestory.stages.audit.detection_cache import _decode, _encode, cached_detections
from clerestory.stages.audit.findings import CODES
from clerestory.store.answer_cache import AnswerCache

TEXT = st.text(st.characters(codec="utf-8"), max_size=8)
IDS = st.lists(TEXT, max_size=4).map(tuple)
DETECTIONS = st.builds(
    Detection,
    code=st.sampled_from(CODES),
    message=TEXT,
    samples=IDS,
    checked=st.integers(0, 10**6),
    groups=st.lists(IDS, max_size=3).map(tuple),
    notes=st.dictionaries(TEXT, TEXT, max_size=3).map(Tags),
    reason=TEXT,
    state=st.sampled_from([None, "pass", "fail", "not_run"]),
    severity=st.sampled_from([None, "info", "error"]),
    fix=st.none() | TEXT,
)


@given(DETECTIONS)
def test_every_field_is_kept(detection: Detection) -> None:
    assert _decode(_encode(detection)) == detection


def test_a_check_runs_once_for_a_key(tmp_path: Path) -> None:
    runs = []

    def check() -> list[Detection]:
        runs.append(1)
        return [Detection(CODES[0], "2 images of 9 are odd", ("a", "b"), 9, notes=Tags(a="x", b="y"))]

    made = cached_detections(AnswerCache(tmp_path / "answers.db"), check, "data", "settings")
    assert cached_detections(AnswerCache(tmp_path / "answers.db"), check, "data", "settings") == made == check()
    assert len(runs) == 2  # the last one is that of this test
    cached_detections(AnswerCache(tmp_path / "answers.db"), check, "data", "other settings")
    cached_detections(AnswerCache(tmp_path / "answers.db"), check, "data settings")
    assert len(runs) == 4


def test_no_detections_are_kept_too(tmp_path: Path) -> None:
    cache = AnswerCache(tmp_path / "answers.db")
    assert cached_detections(cache, list, "data") == []
    assert cached_detections(cache, lambda: 1 / 0, "data") == []  # type: ignore[arg-type,return-value]
