"""The measurements on the evidence page: by topic and by benchmark, each with its trust label."""

from __future__ import annotations

import html
import re
from dataclasses import replace

import pytest
from starlette.testclient import TestClient
from tests.web.conftest import World

from clerestory.core.codec import Tags
from clerestory.core.digest import canonical
from clerestory.report.model import BenchmarkTrust
from clerestory.report.topics import topic_views
from clerestory.report.trust import trust_of, trust_view
from clerestory.web.views import _environment

LABELS = {"yes": "can be trusted", "careful": "Be careful", "no": "Do not trust"}


def text(page: str) -> str:
    """What a page says, on one line."""
    return " ".join(html.unescape(re.sub(r"<[^>]+>", " ", page)).split())


def test_every_measurement_is_listed_under_its_topic_once(client: TestClient, world: World) -> None:
    evidence = world.store.evidence(world.live.evidence[0])
    topics = topic_views(evidence.measurements, trust_of(evidence, world.store))
    assert len(topics) > 1
    page = text(client.get(f"/evidence/{evidence.id}").text)
    for topic in topics:
        assert f"{topic.title} {topic.count} number" in page
    listed = [number.measurement.key for topic in topics for b in topic.benchmarks for number in b.numbers]
    assert sorted(listed) == sorted(m.key for m in evidence.measurements)


def test_measurements_are_filtered_by_the_words_in_the_address(client: TestClient, world: World) -> None:
    evidence = world.store.evidence(world.live.evidence[0])
    total = f"{len(evidence.measurements)} measurements"
    page = client.get(f"/evidence/{evidence.id}", params={"q": "RECALL@10  finding"}).text
    names = re.findall(r'<tr role="row"><th scope="row" role="rowheader">(.*?)</th>', page)
    assert 0 < len(names) < len(evidence.measurements)
    assert all("recall@10" in name for name in names)
    assert f"{len(names)} of {total}" in text(page)
    assert 'value="RECALL@10 finding"' in page
    assert "<details" in page
    assert '<details class="card pad group">' not in page  # every group that is left is open
    none = client.get(f"/evidence/{evidence.id}", params={"q": "<script> nothing"}).text
    assert f"0 of {total}" in text(none)
    assert "<script> nothing" not in none


def test_benchmarks_have_their_trust_label_on_every_page(client: TestClient, world: World) -> None:
    evidence = world.store.evidence(world.live.evidence[0])
    trust = trust_of(evidence, world.store)
    assert trust, "the validity of the benchmarks was measured"
    page = text(client.get(f"/evidence/{evidence.id}").text)
    assert all(LABELS[label] in page for label in {t.label for t in trust})
    retrieval = next(t for t in trust if (t.task, t.split) == ("text_to_image", "test"))
    for path in (f"/releases/icons/{world.live.number}", "/releases"):
        page = text(client.get(path).text)
        assert LABELS[retrieval.label] in page
        assert all(reason in page for reason in retrieval.reasons)


def test_the_evidence_of_one_suite_has_the_label_too(client: TestClient, world: World) -> None:
    (suite,) = world.store.find_evidence("evaluate.retrieval", model=world.live.model)
    evaluation = world.store.evidence(world.live.evidence[0])
    trust = trust_of(evaluation, world.store)
    (retrieval,) = [t for t in trust if (t.task, t.split) == ("text_to_image", "test")]
    assert LABELS[retrieval.label] in text(client.get(f"/evidence/{suite.id}").text)


@pytest.mark.parametrize(("label", "tone"), [("yes", "yes"), ("careful", "unsure"), ("no", "no")])
def test_a_label_is_text_icon_and_colour(label: str, tone: str) -> None:
    macros, icons = (_environment().get_template(name).module for name in ("trust.html", "icons.html"))
    trust = BenchmarkTrust("yes_no", "test", label, ("Size: too small (CLR-E062).",))
    shown = str(macros.trust(trust_view(trust)))  # type: ignore[attr-defined]  # a macro of the template
    assert LABELS[label] in shown
    assert f'class="tone-{tone}"' in shown
    assert str(icons.icon(tone)).strip() in shown  # type: ignore[attr-defined]
    assert ": Yes-or-no questions (VQA), on concepts it never saw (test)</span>" in shown
    assert str(macros.trust(None)).strip() == ""  # type: ignore[attr-defined]


def test_reasons_cannot_break_the_page(client: TestClient, world: World) -> None:
    reason = {"code": "CLR-E060", "level": "no", "message": "<script>alert(1)</script> <b>62%</b>"}
    labels = {"a/b": {"task": "text_to_image", "split": "test", "verdict": "no", "reasons": [reason], "passed": []}}
    evidence = world.store.evidence(world.live.evidence[0])
    artifacts = Tags({**evidence.artifacts, "validity": world.store.blobs.put(canonical(labels))})
    where = world.store.put_evidence(
        replace(evidence, artifacts=artifacts, subject=replace(evidence.subject, model=""))
    )
    page = client.get(f"/evidence/{where}").text
    assert "<script>alert" not in page
    assert "<b>62%" not in page
    benchmark = "text to image (test)"
    assert f"Do not trust 1 benchmark on this page: {benchmark}." in text(page)
