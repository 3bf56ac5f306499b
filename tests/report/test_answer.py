"""The answer in plain words, and honesty about what is missing."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
from huggingface_hub import ModelCard
from tests.report.parsing import Parsed
from tests.report.world import World, examination, make_data, make_model

from clerestory.core.digest import short
from clerestory.core.errors import InputError, NotFound
from clerestory.core.release import Decision, Event
from clerestory.report import build, collect, render_html, render_markdown, report
from clerestory.report.card import model_card
from clerestory.report.files import DIGESTS
from clerestory.report.model import ReportData
from clerestory.report.view import Chapter, ReportPage
from clerestory.store import AliasMove


def chapter(page: ReportPage, anchor: str) -> Chapter:
    return next(c for c in page.chapters if c.anchor == anchor)


def test_live_release(world: World) -> None:
    page = build(collect(world.store, "icons", world.data))
    assert (page.decision.word, page.decision.title) == ("Yes", "icons@2 may ship, and it is live.")
    assert (
        "Live since 23 November 2026, 18:02 UTC. Grace made it live: “passed the gate, looks right”"
        in page.decision.lines
    )
    assert "All 3 rules of the policy icons version 1 are met." in page.decision.lines
    assert page.highlights[0].value == "57 of 100"
    assert page.highlights[0].interval == "between 53 and 61"
    assert "n = 2,480 in 488 concepts" in page.highlights[0].basis
    assert not page.notices


def test_refused_release(world: World) -> None:
    page = build(collect(world.store, "icons@1", world.data))
    assert (page.decision.state, page.decision.title) == ("no", "icons@1 must not ship.")
    assert page.decision.command == "clerestory train --steps 1200"
    assert "Live now: icons@2." in page.decision.lines
    assert [r.state for r in page.reasons] == ["no", "no", "yes"]
    assert page.reasons[0].anchor in {e.anchor for e in page.evidence}
    assert "step 200" in chapter(page, "training").lead


def test_undecided_model(own_world: World, tmp_path: Path) -> None:
    store = own_world.store
    model = store.put_model(make_model(tmp_path / "other", "other"))
    store.put_evidence(examination(store, own_world.data, model, 0.5))
    page = build(collect(store, model[:10], own_world.data))
    assert page.decision.word == "Cannot decide"
    assert page.decision.command == f"clerestory release gate {short(model)}"
    assert not page.reasons
    assert chapter(page, "retrieval").figures, "what was measured is shown all the same"
    assert "There is no decision" in render_html(page)


def test_a_models_digest_leads_to_its_release(own_world: World) -> None:
    store, final = own_world.store, own_world.final
    assert build(collect(store, final.model)).decision == build(collect(store, "icons@live")).decision
    again = store.add_release("icons", final.model, final.evidence, final.decision, "Ada", "once more")
    assert again.number == 3
    assert collect(store, final.model).release == final, "the live one, not the newest"
    assert collect(store, own_world.early.model).release == own_world.early


def test_cannot_tell(world: World) -> None:
    data = collect(world.store, "icons@2", world.data)
    assert data.release is not None
    reason = replace(
        data.release.decision.reasons[0], outcome="cannot_decide", evidence="", command="clerestory evaluate X"
    )
    decision = Decision("cannot_decide", "icons version 1", "", data.model, (reason,))
    page = build(replace(data, release=replace(data.release, decision=decision), aliases=(), promotion=None))
    assert page.decision.title == "It cannot be decided yet whether icons@2 may ship."
    assert page.decision.command == "clerestory evaluate X"
    assert '<p class="links">No evidence</p>' in render_html(page)


def test_rolled_back_since(own_world: World) -> None:
    store = own_world.store
    back = Event("rolled_back", "icons@2", "Ada", "too slow", "2026-11-24T09:00:00+00:00")
    store.move_alias("icons", "live", 1, 1, replace(back, subject="icons@1"))
    assert collect(store, "icons@2").promotion is None
    store.move_alias("icons", "live", 2, 2, back)
    page = build(collect(store, "icons@2"))
    assert (
        "Live since 24 November 2026, 09:00 UTC. Ada made it live by a rollback to it: “too slow”"
        in page.decision.lines
    )


def test_other_alias_does_not_make_it_live(own_world: World) -> None:
    event = Event("promoted", "icons@2", "Ada", "try it", "2026-11-25T09:00:00+00:00")
    own_world.store.move_aliases("icons", [AliasMove("candidate", 2, 0)], event)
    live = collect(own_world.store, "icons@2").promotion
    assert live is not None
    assert live.event.who == "Grace"


def test_beside_the_refused_checkpoint(world: World) -> None:
    page = build(collect(world.store, "icons@2", world.data))
    (table,) = chapter(page, "comparison").tables
    assert table.head[1] == "icons@1 (refused)"
    verdicts = {row[0]: row[3] for row in table.rows}
    recall = "Correct answer in the first 10 (recall@10), finding the caption of a picture (image to text)"
    assert verdicts[f"{recall} · concepts it never saw (test)"] == "better"
    similarity = "Caption similarity (chrF), writing captions (captioning) · concepts it never saw (test)"
    assert verdicts[similarity] == "too close to call"
    other_way = build(collect(world.store, "icons@1", world.data))
    (table,) = chapter(other_way, "comparison").tables
    assert table.head[1] == "icons@2 (live)"
    assert table.rows[0][3] == "worse"


def test_without_pictures_it_says_so(world: World) -> None:
    page = build(collect(world.store, "icons@2"))
    assert any("pictures" in notice for notice in page.notices)
    assert page.data is not None
    assert "84 pictures" in page.data.lines[0]
    assert not page.data.tables
    assert not any(e.thumbnail for g in chapter(page, "examples").examples for e in g.examples)
    assert "no picture" in render_html(page)


def test_other_pictures_are_not_shown(world: World) -> None:
    other = make_data("something else")
    page = build(collect(world.store, "icons@2", other))
    assert any("is not that of the evidence" in notice for notice in page.notices)
    assert not any(e.thumbnail for g in chapter(page, "examples").examples for e in g.examples)


def test_damaged_evidence_is_named(own_world: World) -> None:
    evidence = own_world.final.evidence[0]
    path = own_world.store.blobs.path(evidence)
    path.chmod(0o644)
    path.write_bytes(path.read_bytes().replace(b"0.57", b"0.97", 1))
    page = build(collect(own_world.store, "icons@2"))
    assert any(f"evidence {short(evidence)}" in notice for notice in page.notices)
    assert not chapter(page, "retrieval").figures
    assert not page.highlights
    assert "(cannot be read here)" in render_html(page)


def test_missing_log_and_policy(own_world: World) -> None:
    store = own_world.store
    train = store.find_evidence("train")[0]
    for blob in (train.artifacts["log"], own_world.final.decision.policy_digest):
        store.blobs.path(blob).unlink()
    page = build(collect(store, "icons@2", own_world.data))
    assert not chapter(page, "training").figures
    assert any("training curve" in n for n in page.notices)
    assert any(n.startswith("Not shown: policy icons version 1") for n in page.notices)
    assert all(r.message and not r.plain for r in page.reasons)
    assert "There is no training log to draw" in render_html(page)


def test_stale_evidence_is_named(world: World) -> None:
    data = collect(world.store, "icons@2", world.data)
    records = tuple(replace(h, changed=("code",)) for h in data.evidence)
    page = build(replace(data, evidence=records))
    kinds = [h.evidence.kind for h in records]
    for kind, notice in zip(kinds, page.notices, strict=False):
        wanted = "would give another model" if kind == "train" else "it is out of date"
        assert wanted in notice, kind
    assert {"train", "evaluate"} <= set(kinds)
    assert {e.label for e in page.evidence} == {"out of date"}


def test_nothing_known_at_all() -> None:
    page = build(ReportData(ref="0123456789ab", model="0123456789ab" + "0" * 52))
    html = render_html(page)
    Parsed(html)
    for words in (
        "was not evaluated",
        "no decision",
        "The store has no evidence",
        "has no record about this model",
        "no record of this model",
    ):
        assert words in html
    assert "Cannot decide" in render_markdown(page)


def test_share_alike_is_named(world: World) -> None:
    page = build(collect(world.store, "icons@2", world.data))
    assert page.data is not None
    assert page.data.warnings[0].startswith(
        "Share-alike: 36 pictures under CC-BY-SA-4.0 (EmojiOne, FxEmoji and OpenMoji)"
    )


def test_unknown_name(world: World, tmp_path: Path) -> None:
    with pytest.raises(NotFound, match="icons@2"):
        report(world.store, "icon@2", tmp_path)


def test_place_that_cannot_be_written(world: World, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("here", encoding="utf-8")
    with pytest.raises(InputError, match="is a file, not a folder"):
        report(world.store, "icons@2", tmp_path / "file")
    with pytest.raises(InputError, match="does not exist"):
        report(world.store, "icons@2", tmp_path / "deep" / "page.html")
    assert [path.name for path in tmp_path.iterdir()] == ["file"]


def test_an_existing_report_is_replaced_only_when_asked(world: World, tmp_path: Path) -> None:
    (tmp_path / "page.json").write_text("notes of a person", encoding="utf-8")
    with pytest.raises(InputError, match=r"page.json already exists"):
        report(world.store, "icons@2", tmp_path / "page.html")
    assert [path.name for path in tmp_path.iterdir()] == ["page.json"]
    files = report(world.store, "icons@2", tmp_path / "page.html", force=True)
    assert files.json.read_text(encoding="utf-8").startswith("{")


def test_names_of_the_files(world: World, tmp_path: Path) -> None:
    named = report(world.store, "icons@2", tmp_path / "page.html")
    assert (named.html.name, named.json.name) == ("page.html", "page.json")
    default = report(world.store, "icons@live")
    assert report(world.store, "icons@live") == default  # in the folder of the store, a report is renewed
    assert default.html == world.store.home / "reports" / "icons-2.html"
    assert sorted(p.name for p in default.html.parent.iterdir()) == [DIGESTS, "icons-2.html", "icons-2.json"]
    with default.html.open("a", encoding="utf-8") as file:
        file.write("<!-- a note of a person -->")
    edited = default.html.read_bytes()
    with pytest.raises(InputError, match=r"icons-2.html has been edited"):
        report(world.store, "icons@live")
    assert default.html.read_bytes() == edited
    assert report(world.store, "icons@live", force=True) == default
    assert b"a note of a person" not in default.html.read_bytes()


def test_model_card_has_metadata_that_the_hub_accepts(world: World) -> None:
    data = collect(world.store, "icons@2", world.data)
    card = ModelCard(model_card(data))
    assert card.data.license == "other"
    assert card.data.library_name == "clerestory"
    results = card.data.eval_results
    assert results
    measured = {
        (m.name, m.slice.get("split"), round(m.value, 6)) for r in data.evidence for m in r.evidence.measurements
    }
    assert {(r.metric_type, r.dataset_split, r.metric_value) for r in results} <= measured
    assert card.text.strip() == render_markdown(build(data)).strip()


def test_markdown_card_has_the_same_numbers(world: World) -> None:
    page = build(collect(world.store, "icons@2", world.data))
    card = render_markdown(page)
    for row in chapter(page, "retrieval").figures[0].table.rows:
        assert row[2] in card
    rows = [line for line in card.splitlines() if line.startswith("|")]
    widths = {line.count("|") for line in rows}
    assert widths <= {4, 5, 6, 7}
