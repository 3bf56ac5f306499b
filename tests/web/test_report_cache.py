"""The page of a report is built once for each state of the store, and within a bound of memory."""

from __future__ import annotations

from pathlib import Path

from starlette.testclient import TestClient
from tests.support.released_store import add_release, edit_alias, released_store
from tests.web.conftest import BASE

from clerestory.core.evidence import Cost, Evidence, Subject
from clerestory.stages.release import promote
from clerestory.store import Store
from clerestory.web import create_app
from clerestory.web.report_cache import ReportCache


def test_a_report_is_built_again_only_when_the_store_has_changed(store: Store, tmp_path: Path) -> None:
    first, second = (release.ref for release in released_store(store, tmp_path, 2))
    cache, built = ReportCache(), []

    def build() -> str:
        built.append(store.revision())
        return f"report {len(built)}"

    assert [cache.get(store, first, build) for _ in range(3)] == ["report 1"] * 3
    assert cache.get(store, second, build) == "report 2"
    assert cache.get(store, first, build) == "report 1"
    changes = [
        lambda: promote(second, store, "grace", "newer"),
        lambda: edit_alias(store, 1),  # past the journal
        lambda: add_release(store, tmp_path / "0"),
        lambda: store.put_evidence(Evidence("train", Subject(), (), (), Cost(1, 1, 1), "2026-01-01")),
    ]
    for number, change in enumerate(changes, start=3):
        change()
        assert [cache.get(store, first, build) for _ in range(2)] == [f"report {number}"] * 2
    assert len(set(built)) == 1 + len(changes)


def test_reports_beyond_the_bound_are_not_kept(store: Store, tmp_path: Path) -> None:
    released_store(store, tmp_path, 1)
    cache, built = ReportCache(max_characters=10), []

    def visit(ref: str, report: str) -> None:
        assert cache.get(store, ref, lambda: built.append(ref) or report)

    for ref, report in (("a", "x" * 6), ("b", "x" * 4), ("a", ""), ("c", "x" * 3), ("b", "x" * 4), ("d", "x" * 11)):
        visit(ref, report)
    assert built == ["a", "b", "c", "b", "d"]


def test_the_page_shows_a_change_at_the_next_visit(store: Store, tmp_path: Path) -> None:
    first, second = (release.ref for release in released_store(store, tmp_path, 2))
    client = TestClient(create_app(store, None), base_url=BASE)
    before = client.get("/releases/icons/2/report").text
    assert client.get("/releases/icons/2/report").text == before
    promote(second, store, "grace", "a reason to be read")
    assert "a reason to be read" in client.get("/releases/icons/2/report").text
    assert "a reason to be read" not in before
    assert first != second
