"""The report of a model that was really examined, put to the gate and made live."""

from __future__ import annotations

from pathlib import Path

import pytest
from tests.report.parsing import Parsed
from tests.report.world import make_model
from tests.support.colour_tiles import ColourModel, tiles

from clerestory.core.codec import Tags
from clerestory.core.release import Policy, Rule
from clerestory.report import build, collect, render_html
from clerestory.stages.evaluate import EvaluateConfig, evaluate
from clerestory.stages.release import gate, promote, register
from clerestory.store import Store

WHERE = Tags(task="image_to_text", split="test")


@pytest.mark.parametrize(("bound", "word"), [(0.01, "Yes"), (0.999, "No")])
def test_what_the_stages_write_is_what_the_report_reads(bound: float, word: str, store: Store, tmp_path: Path) -> None:
    data = tiles()
    model = ColourModel()
    model.digest = store.put_model(make_model(tmp_path / "model", "colours"))
    evaluate(model, data, EvaluateConfig(caption_samples=6, latency_samples=12, warm_up_requests=1), store)
    policy = Policy(
        "colours", (Rule("right captions", "recall@10", WHERE, at_least=bound, why="It has to be of use."),)
    )
    decision = gate(model.digest, store, policy, data.digest)
    release = register("tiles", decision, store, "Ada", "first try")
    if word == "Yes":
        promote(release.ref, store, "Grace", "it holds")
    page = build(collect(store, release.ref, data))
    assert page.decision.word == word
    chapters = {c.anchor: c for c in page.chapters}
    assert len(chapters["retrieval"].figures) == 2
    assert chapters["speed"].figures
    assert any(e.thumbnail for g in chapters["examples"].examples for e in g.examples)
    (reason,) = page.reasons
    assert "Required: at least" in reason.plain
    assert reason.svg
    assert any("never" in line or "Live since" in line or "No release" in line for line in page.decision.lines)
    assert [n for n in page.notices if not n.startswith("Not shown: training")] == []
    html = render_html(page)
    Parsed(html)
    assert len(html) < 1_000_000
