"""Replies that give no answer, classes that are concepts, and benchmarks that cannot be judged, end to end."""

import json
import random
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image
from tests.support.colour_tiles import ColourModel
from tests.support.endpoint import endpoint
from tests.support.task_files import (
    NAMES,
    RuleBasedScorer,
    ScriptedGenerator,
    named_colour,
    tile,
    write_quiz,
    write_table,
    write_task,
)

from clerestory.core.errors import CapabilityError, DataError
from clerestory.core.evidence import Evidence
from clerestory.core.sample import TEST, TRAIN
from clerestory.models.adapters.openai import open_endpoint
from clerestory.models.protocols import GenerationRequest, Reply
from clerestory.stages.evaluate import EvaluateConfig, evaluate
from clerestory.stages.evaluate.tasks import load_task
from clerestory.stages.evaluate.tasks.items import open_task_data
from clerestory.stats.aggregate import recompute
from clerestory.stats.paired import paired_difference
from clerestory.stats.power import minimum_detectable_effect
from clerestory.stats.rows import read_rows
from clerestory.store import Store

WHERE = {"task": "colours", "split": "test"}


def run(store: Store, model: object, file: Path, **settings: Any) -> Evidence:
    config = EvaluateConfig(suites=("tasks", "validity"), tasks=(str(file),), **settings)
    return evaluate(model, open_task_data(load_task(file)), config, store)


def verdict(store: Store, evidence: Evidence, name: str = "colours/test") -> dict[str, Any]:
    found: dict[str, Any] = json.loads(store.blobs.get(evidence.artifacts["validity"]))[name]
    return found


def correct_letter(request: GenerationRequest) -> str:
    colour = named_colour(request.images[0]) if request.images else "?"
    return next((line.split(". ")[0] for line in request.prompt.splitlines() if line.endswith(f". {colour}")), "none")


def test_the_share_of_replies_that_are_not_understood_is_measured_and_shown(store: Store, tmp_path: Path) -> None:
    write_quiz(tmp_path, 40)

    def say(request: GenerationRequest) -> str:
        tile_number = int(request.prompt.partition("tile ")[2].partition(",")[0])
        return "Both could be right." if tile_number % 4 == 0 and request.images else f"**{correct_letter(request)}**"

    evidence = run(store, ScriptedGenerator(say), write_task(tmp_path))
    accuracy, share = (evidence.find(name, WHERE) for name in ("accuracy", "not_understood"))
    assert accuracy is not None
    assert share is not None
    assert (accuracy.value, accuracy.n) == (1.0, 30)
    assert (share.value, share.n) == (0.25, 40)
    rows = read_rows(store.blobs.get(evidence.rows))
    assert recompute(rows, share) == share
    assert set(rows["unscored"][(rows["condition"] == "clean") & np.isnan(rows["score"])]) == {"not_understood"}
    found = [finding for finding in evidence.findings if finding.code == "CLR-E009"]
    assert [(f.reason, f.count) for f in found] == [("not_understood", 10)]
    assert "“Both could be right.”" in found[0].message
    told = verdict(store, evidence)
    reason = next(each for each in told["reasons"] if each["code"] == "CLR-E067")
    assert (reason["level"], reason["value"], reason["n"]) == ("no", 0.25, 40)
    assert "“Both could be right.”" in reason["message"]


def test_three_different_examples_are_shown_shortened_and_as_text(store: Store, tmp_path: Path) -> None:
    write_quiz(tmp_path, 12)
    replies = ["\x1b[31mhm\x1b[0m " + "x" * 300, "cannot say", "no idea", "what?", "cannot say"]
    counter = iter(range(10**6))
    model = ScriptedGenerator(lambda _: replies[next(counter) % 5])
    evidence = run(store, model, write_task(tmp_path))
    assert evidence.find("accuracy", WHERE) is None
    message = next(f.message for f in evidence.findings if f.code == "CLR-E009")
    assert message.count("“") == 3
    assert len(message) < 500
    assert "\x1b" not in message
    assert verdict(store, evidence)["verdict"] == "no"


def test_a_reply_that_was_cut_off_is_not_understood_and_never_wrong(store: Store, tmp_path: Path) -> None:
    write_quiz(tmp_path, 16)

    def say(request: GenerationRequest) -> Reply:
        letter, length = correct_letter(request), request.max_tokens
        wrong = "B" if letter != "B" else "A"
        if length < 50:
            return Reply(f"<think>It may be {wrong}, as the colour of option {wrong}", 9, length, 1.0, cut_off=True)
        if length < 500:
            return Reply(f"The answer is {letter}. To see why, look at", 9, length, 1.0, cut_off=True)
        return Reply(f"<think>It may be {wrong}.</think>{letter}", 9, 60, 1.0)

    model = ScriptedGenerator(say)
    cut = run(store, model, write_task(tmp_path), max_reply_tokens=20)
    assert cut.find("accuracy", WHERE) is None
    found = next(f for f in cut.findings if f.code == "CLR-E009")
    assert "cut off at 20 tokens" in found.message
    assert "max_reply_tokens" in found.fix
    for length in (60, 2000):
        whole = run(store, model, write_task(tmp_path), max_reply_tokens=length)
        accuracy, share = whole.find("accuracy", WHERE), whole.find("not_understood", WHERE)
        assert accuracy is not None
        assert share is not None
        assert (accuracy.value, share.value) == (1.0, 0.0)


def test_without_the_image_declining_is_not_solving(store: Store, tmp_path: Path) -> None:
    write_quiz(tmp_path, 20, giveaway=0.2)

    def say(request: GenerationRequest) -> str:
        if request.images:
            return correct_letter(request)
        hint = request.prompt.partition("Hint: it is ")[2].partition(".")[0]
        return next(
            (line[0] for line in request.prompt.splitlines() if hint and line.endswith(f". {hint}")), "No image."
        )

    evidence = run(store, ScriptedGenerator(say), write_task(tmp_path))
    blind = evidence.find("accuracy", {**WHERE, "condition": "blind"})
    assert blind is not None
    assert (blind.value, blind.n) == (0.2, 20)


def test_blind_answers_that_all_failed_are_not_passed(store: Store, tmp_path: Path) -> None:
    write_quiz(tmp_path, 12)

    def say(request: GenerationRequest) -> str | Exception:
        return correct_letter(request) if request.images else TimeoutError("late")

    told = verdict(store, run(store, ScriptedGenerator(say), write_task(tmp_path)))
    assert next(each for each in told["reasons"] if each["code"] == "CLR-E060")["level"] == "careful"


def test_a_reply_cut_off_by_an_endpoint_is_marked_even_without_text() -> None:
    with endpoint() as server:
        model = open_endpoint(server.ref)
        request = GenerationRequest("hello", max_tokens=2)
        assert not model.generate([request])[0].cut_off  # type: ignore[union-attr]  # no embedder
        server.finish = "length"
        assert model.generate([request])[0].cut_off  # type: ignore[union-attr]
        server.content = ""
        reply = model.generate([request])[0]  # type: ignore[union-attr]
        assert (reply.cut_off, reply.error, reply.text) == (True, "", "")


def test_captions_of_an_endpoint_are_without_reasoning_and_without_a_cut_line() -> None:
    with endpoint(
        content="<think>a dog?\nno</think>\n1. a cat\n2. a tabby cat\n3. a sleeping ca", finish="length"
    ) as server:
        model = open_endpoint(server.ref)
        image = Image.new("RGB", (4, 4))
        captions = model.caption_images([image], 3)[0]  # type: ignore[union-attr]  # no embedder
        assert [caption.text for caption in captions] == ["a cat", "a tabby cat"]


@pytest.mark.parametrize("count", [27, 60])
def test_items_with_many_options_are_answered_by_their_letters(store: Store, tmp_path: Path, count: int) -> None:
    rows = []
    for i, name in enumerate(NAMES[:3]):
        options = [*NAMES, *(f"shade {n}" for n in range(count - len(NAMES)))]
        random.Random(i).shuffle(options)
        question = f"Which colour has tile {i}?"
        cells = {"image": tile(tmp_path, f"{i}.png", name, i), "question": question, "choices": "|".join(options)}
        rows.append(cells | {"answer": name, "concept": f"tile {i}", "size": "any", "split": "test"})
    write_table(tmp_path / "quiz.csv", rows)
    prompts: list[str] = []

    def say(request: GenerationRequest) -> str:
        prompts.append(request.prompt)
        return correct_letter(request)

    evidence = run(store, ScriptedGenerator(say), write_task(tmp_path))
    accuracy = evidence.find("accuracy", WHERE)
    assert accuracy is not None
    assert accuracy.value == 1.0
    assert any("\nAA. " in prompt for prompt in prompts)


def test_a_scorer_of_few_options_answers_larger_items_in_words_or_is_refused(store: Store, tmp_path: Path) -> None:
    class Limited(RuleBasedScorer):
        max_options = 3

    class Both(ScriptedGenerator, Limited):
        def __init__(self) -> None:
            Limited.__init__(self)
            ScriptedGenerator.__init__(self, correct_letter, "both")

    write_quiz(tmp_path, 8)
    with pytest.raises(CapabilityError, match="has 4 options, and this model scores at most 3"):
        run(store, Limited(), write_task(tmp_path))
    evidence = run(store, Both(), write_task(tmp_path))
    accuracy = evidence.find("accuracy", WHERE)
    assert accuracy is not None
    assert accuracy.value == 1.0
    assert evidence.facts["task.colours.capability"] == "Generator"


def labelled(folder: Path, per_class: int, **cells: str) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    rows = [
        {"image": tile(folder, f"{name}{i}.png", name, i), "label": name, **cells}
        for name in ("red", "blue", "yellow")
        for i in range(per_class)
    ]
    return write_table(folder / "classes.csv", rows)


@pytest.mark.parametrize("label", ["label", "kind"])
@pytest.mark.parametrize("kind", ["knn", "linear_probe"])
def test_classes_that_are_concepts_are_split_within_each_class(
    store: Store, tmp_path: Path, kind: str, label: str
) -> None:
    table = labelled(tmp_path, 30)
    if label == "kind":  # another name for the same classes
        lines = table.read_text().splitlines()
        table.write_text(
            "\n".join([lines[0] + ",kind", *(f"{line},kind of {line.split(',')[1]}" for line in lines[1:])])
        )
    task = f'name = "colours"\nkind = "{kind}"\ndata = "classes.csv"\nlabel = "{label}"\n'
    data = open_task_data(load_task(write_task(tmp_path, task)))
    for split, count in ((TRAIN, 24), (TEST, 3)):
        classes = [sample.groups[label] for sample in data if sample.split == split]
        assert sorted(classes) == sorted([name for name in set(classes) for _ in range(count)])
        assert len(set(classes)) == 3
    accuracy = run(store, ColourModel(), tmp_path / "mine.toml").find("accuracy", WHERE)
    assert accuracy is not None
    assert (accuracy.value, accuracy.n, accuracy.clusters) == (1.0, 9, 9)


def test_the_same_image_twice_is_on_one_side_of_the_split(tmp_path: Path) -> None:
    table = labelled(tmp_path, 12)
    lines = table.read_text().splitlines()
    table.write_text("\n".join([*lines, *lines[1:]]))
    task = 'name = "colours"\nkind = "knn"\ndata = "classes.csv"\nlabel = "label"\n'
    data = open_task_data(load_task(write_task(tmp_path, task)))
    splits: dict[str, set[str]] = {}
    for sample in data:
        splits.setdefault(sample.image, set()).add(sample.split)
    assert {len(some) for some in splits.values()} == {1}


def test_zero_shot_items_of_concept_classes_are_independent_of_one_another(store: Store, tmp_path: Path) -> None:
    labelled(tmp_path, 20)
    task = 'name = "colours"\nkind = "zero_shot"\ndata = "classes.csv"\nlabel = "label"\n'
    evidence = run(store, ColourModel(), write_task(tmp_path, task))
    accuracy = evidence.find("accuracy", {"task": "colours", "split": "all"})
    assert accuracy is not None
    assert (accuracy.n, accuracy.clusters) == (60, 60)
    size = next(e for e in verdict(store, evidence, "colours/all")["reasons"] if e["code"] == "CLR-E062")
    assert size["value"] <= 1.0


def test_classes_without_training_images_are_refused_or_unscored(store: Store, tmp_path: Path) -> None:
    table = labelled(tmp_path, 10, split="train")
    text = table.read_text()
    task = 'name = "colours"\nkind = "knn"\ndata = "classes.csv"\nlabel = "label"\n'
    table.write_text(
        "\n".join(line.replace(",train", ",test") if line.startswith("red") else line for line in text.splitlines())
    )
    with pytest.raises(DataError, match="no class of the 10 evaluated images"):
        run(store, ColourModel(), write_task(tmp_path, task))
    moved = [
        line.replace(",train", ",test") if line.startswith(("red", "blue0")) else line for line in text.splitlines()
    ]
    table.write_text("\n".join(moved))
    evidence = run(store, ColourModel(), write_task(tmp_path, task))
    accuracy = evidence.find("accuracy", WHERE)
    assert accuracy is not None
    assert (accuracy.value, accuracy.n) == (1.0, 1)
    assert [(f.reason, f.count) for f in evidence.findings if f.code == "CLR-E001"] == [("unknown_label", 10)]


@pytest.mark.parametrize("split", ["train", "val"])
def test_a_classifier_is_not_evaluated_on_its_training_images(store: Store, tmp_path: Path, split: str) -> None:
    labelled(tmp_path, 6, split=split)
    task = 'name = "colours"\nkind = "knn"\ndata = "classes.csv"\nlabel = "label"\n'
    with pytest.raises(DataError, match="no labelled images in the split train besides the evaluated ones"):
        run(store, ColourModel(), write_task(tmp_path, task))


def test_one_item_is_not_a_valid_benchmark(store: Store, tmp_path: Path) -> None:
    write_quiz(tmp_path, 1)
    told = verdict(store, run(store, RuleBasedScorer(), write_task(tmp_path)))
    assert told["verdict"] == "no"
    size = next(each for each in told["reasons"] if each["code"] == "CLR-E062")
    assert size["message"] == "1 item of 1 concept cannot distinguish any two models"


@pytest.mark.parametrize("count", [2, 3, 4, 5])
def test_no_difference_above_100_points_is_named(store: Store, tmp_path: Path, count: int) -> None:
    write_quiz(tmp_path, count)
    wrong = ScriptedGenerator(lambda request: "A" if request.images else "B")
    run(store, RuleBasedScorer(), write_task(tmp_path))
    told = verdict(store, run(store, wrong, write_task(tmp_path)))
    size = next(each for each in told["reasons"] if each["code"] == "CLR-E062")
    assert size["value"] <= 1.0
    rng = np.random.default_rng(count)
    for _ in range(50):
        a, b = rng.choice([0, 0.25, 0.5, 0.75, 1], (2, count))
        difference = paired_difference(a, b, np.arange(count))
        effect = minimum_detectable_effect(difference)
        assert effect is None or effect <= 1
        assert difference.interval is None or -1 <= difference.interval.low <= difference.interval.high <= 1
