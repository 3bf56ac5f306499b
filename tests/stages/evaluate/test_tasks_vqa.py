"""Questions generated from captions: fair distractors, and scores without the image."""

from collections import Counter
from pathlib import Path

import pytest
from tests.support.colour_tiles import ColourModel, tiles
from tests.support.task_files import (
    NAMES,
    IncapableModel,
    RuleBasedScorer,
    ScriptedGenerator,
    named_colour,
    tile,
    write_table,
)

from clerestory.core.errors import CapabilityError
from clerestory.core.evidence import Evidence
from clerestory.core.sample import Dataset
from clerestory.data import open_data
from clerestory.models import open_model
from clerestory.models.protocols import GenerationRequest
from clerestory.stages.evaluate import EvaluateConfig, evaluate
from clerestory.stages.evaluate.suites.vqa import QuestionGenerator
from clerestory.stats.rows import read_rows
from clerestory.store import Store

WARM = ("red", "yellow", "magenta", "white")


@pytest.fixture
def colours(tmp_path: Path) -> Dataset:
    """Each colour ten times, of two kinds."""
    rows = [
        {
            "image": tile(tmp_path, f"{i}.png", name, i),
            "caption": name,
            "category": "warm" if name in WARM else "cold",
            "split": "test",
        }
        for i, name in enumerate(NAMES * 10)
    ]
    return open_data(write_table(tmp_path / "colours.csv", rows))


def run(store: Store, model: object, data: Dataset, asked: int = 80) -> Evidence:
    return evaluate(model, data, EvaluateConfig(suites=("vqa",), vqa_samples=asked), store)


def test_distractors_are_of_the_same_category(colours: Dataset) -> None:
    generator = QuestionGenerator(colours.samples, "en", 0)
    assert generator.category_group == "category"
    assert not generator.findings()
    items = generator.items("multiple_choice", colours.samples)
    assert len(items) == 80
    for item in items:
        kind = {name in WARM for name in item.options}
        assert len(set(item.options)) == 4
        assert len(kind) == 1
        assert item.answers[0] == item.sample.caption
    places = Counter(item.correct_option for item in items)
    assert set(places) == {0, 1, 2, 3}
    assert max(places.values()) < 35
    assert QuestionGenerator(colours.samples, "en", 0).items("multiple_choice", colours.samples) == items
    assert QuestionGenerator(colours.samples, "en", 1).items("multiple_choice", colours.samples) != items


def test_half_of_the_answers_are_yes_whatever_is_asked(colours: Dataset) -> None:
    items = QuestionGenerator(colours.samples, "en", 0).items("yes_no", colours.samples)
    answers = Counter(item.answers[0] for item in items)
    assert 28 <= answers["yes"] <= 52
    for item in items:
        asked = item.question.removeprefix("Is this a picture of ").removesuffix("?")
        assert (asked == item.sample.caption) == (item.answers[0] == "yes")


def test_who_sees_answers_and_who_is_blind_guesses(store: Store, colours: Dataset) -> None:
    evidence = run(store, RuleBasedScorer(), colours)
    where = {"task": "multiple_choice", "split": "test"}
    full, gain, solvable = (evidence.find(name, where) for name in ("accuracy", "blind_gain", "blind_solvable"))
    assert full is not None
    assert full.value == 1.0
    assert full.clusters == 8
    assert gain is not None
    assert gain.value > 0.6
    assert solvable is not None
    assert abs(solvable.value) < 0.25


def test_a_generator_is_asked_in_every_order_and_freely(store: Store, colours: Dataset) -> None:
    def say(request: GenerationRequest) -> str:
        return f"It is {named_colour(request.images[0])}." if request.images else "I cannot see anything."

    model = ScriptedGenerator(say, "names colours")
    evidence = run(store, model, colours, asked=20)
    for task in ("multiple_choice", "short_answer"):
        found = evidence.find("accuracy", {"task": task, "split": "test"})
        assert found is not None
        assert found.value == 1.0, task
    # "It is red." affirms "Is this a picture of red?"; "It is lime." says neither yes nor no.
    found, lost = (evidence.find(name, {"task": "yes_no", "split": "test"}) for name in ("accuracy", "not_understood"))
    assert found is not None
    assert lost is not None
    assert found.value == 1.0
    assert lost.n == 20
    assert lost.value == (20 - found.n) / 20 > 0
    # Every order of every item with its own picture and with another one; blindly, equal questions are asked once.
    assert 2 * 4 * 20 <= sum("Which of these" in prompt for prompt in model.prompts) <= 3 * 4 * 20
    rows = read_rows(store.blobs.get(evidence.rows))
    assert set(rows["tokens_in"][(rows["task"] == "multiple_choice") & (rows["condition"] == "clean")]) == {40.0}


def test_our_own_model_is_asked_by_similarity(store: Store, tiny_model: Path, few_icons: Dataset) -> None:
    evidence = run(store, open_model(tiny_model), few_icons, asked=40)
    tasks = {m.slice["task"] for m in evidence.measurements}
    assert tasks == {"multiple_choice", "yes_no"}
    assert evidence.facts["vqa.distractors_from"] == "emoji_group"
    assert evidence.find("accuracy_all_orders", {"task": "multiple_choice", "split": "test"}) is None


def test_a_model_that_cannot_answer_is_named(store: Store, colours: Dataset) -> None:
    evidence = evaluate(ColourModel(), colours, EvaluateConfig(suites=("vqa", "retrieval")), store)
    assert any(
        f.state == "not_applicable" and "neither score options nor generate answers" in f.message
        for f in evidence.findings
    )
    with pytest.raises(CapabilityError):
        evaluate(IncapableModel(), tiles(), EvaluateConfig(suites=("retrieval",)), store)
