"""The numbers on the evidence page: by question and by benchmark, each with its label."""

from __future__ import annotations

import html
import re
from dataclasses import replace

import pytest
from starlette.testclient import TestClient
from tests.web.conftest import World

from clerestory.core.codec import Tags
from clerestory.core.digest import canonical
from clerestory.report.model import Trust
from clerestory.report.trust import trust_of
from clerestory.web.measurement_views import questions, trust_view

LABELS = {"yes": "can be trusted", "careful": "Be careful", "no": "Do not trust"}


def text(page: str) -> str:
    """What a page says, on one line."""
    return " ".join(html.unescape(re.sub(r"<[^>]+>", " ", page)).split())


def test_every_measurement_stands_under_its_question_once(world: World) -> None:
    evidence = world.store.evidence(world.live.evidence[0])
    shown = questions(evidence, trust_of(evidence, world.store))
    numbers = [n.measured for q in shown for b in q.benchmarks for n in b.numbers]
    assert sorted(m.key for m in numbers) == sorted(m.key for m in evidence.measurements)
    assert [q.count for q in shown] == [sum(len(b.numbers) for b in q.benchmarks) for q in shown]
    assert len(shown) > 1
    (everything,) = questions(replace(evidence, kind="self_test"), ())
    assert everything.words == "Everything"


def test_a_real_examination_labels_its_benchmarks_on_every_page(client: TestClient, world: World) -> None:
    evidence = world.store.evidence(world.live.evidence[0])
    trust = trust_of(evidence, world.store)
    assert trust, "the examination judged its benchmarks"
    judged = {t.label for t in trust}
    said = text(client.get(f"/evidence/{evidence.id}").text)
    assert all(LABELS[label] in said for label in judged)
    searched = next(t for t in trust if (t.task, t.split) == ("text_to_image", "test"))
    for path in (f"/releases/icons/{world.live.number}", "/releases"):
        page = text(client.get(path).text)
        assert LABELS[searched.label] in page
        assert all(reason in page for reason in searched.reasons)


def test_a_part_of_the_examination_wears_the_label_too(client: TestClient, world: World) -> None:
    (part,) = world.store.find_evidence("evaluate.retrieval", model=world.live.model)
    whole = world.store.evidence(world.live.evidence[0])
    (searched,) = [t for t in trust_of(whole, world.store) if (t.task, t.split) == ("text_to_image", "test")]
    assert LABELS[searched.label] in text(client.get(f"/evidence/{part.id}").text)


@pytest.mark.parametrize("label", LABELS)
def test_a_label_is_words_icon_and_colour(label: str) -> None:
    view = trust_view(Trust("yes_no", "test", label, ("Size: too small (CLR-E062).",)))
    assert view is not None
    assert LABELS[label] in view.state.words
    assert (
        (view.state.icon, view.state.tone)
        == (view.state.tone, view.state.icon)
        == ({"yes": "yes", "careful": "unsure", "no": "no"}[label],) * 2
    )
    assert view.name == "Answering yes or no, on things it never saw"
    assert trust_view(None) is None


def test_reasons_cannot_break_the_page(client: TestClient, world: World) -> None:
    reason = {"code": "CLR-E060", "level": "no", "about": "<script>alert(1)</script>", "words": "<b>62%</b>"}
    told = {"a/b": {"task": "text_to_image", "split": "test", "trust": "no", "reasons": [reason], "passed": []}}
    evidence = world.store.evidence(world.live.evidence[0])
    artifacts = Tags({**evidence.artifacts, "trust": world.store.blobs.put(canonical(told))})
    where = world.store.put_evidence(
        replace(evidence, artifacts=artifacts, subject=replace(evidence.subject, model=""))
    )
    page = client.get(f"/evidence/{where}").text
    assert "<script>alert" not in page
    assert "<b>62%" not in page
    assert "Do not trust 1 benchmark on this page: a picture for words, on things it never saw." in text(page)
