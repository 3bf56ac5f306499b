"""The verdict on benchmarks with planted faults."""

import io
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image, ImageDraw
from tests.support.task_files import (
    RuleBasedScorer,
    ScriptedGenerator,
    named_colour,
    write_quiz,
    write_table,
    write_task,
)

from clerestory.core.codec import Tags
from clerestory.core.evidence import Cost, Evidence, Subject
from clerestory.data import open_data
from clerestory.models.protocols import GenerationRequest
from clerestory.stages.evaluate import EvaluateConfig, evaluate
from clerestory.stages.evaluate.context import EvaluationContext
from clerestory.stages.evaluate.suites.validity.contamination import HASH_BYTES, contaminated_samples, image_signatures
from clerestory.stages.evaluate.tasks import load_task
from clerestory.stages.evaluate.tasks.items import open_task_data
from clerestory.stats.aggregate import recompute
from clerestory.stats.rows import read_rows
from clerestory.store import Store


def run(store: Store, model: object, file: Path) -> Evidence:
    data = open_task_data(load_task(file))
    return evaluate(model, data, EvaluateConfig(suites=("tasks", "validity"), tasks=(str(file),)), store)


def label(store: Store, evidence: Evidence) -> dict[str, Any]:
    found: dict[str, Any] = json.loads(store.blobs.get(evidence.artifacts["validity"]))["colours/test"]
    return found


def reason(told: dict[str, Any], code: str) -> dict[str, Any]:
    return next(each for each in told["reasons"] + told["passed"] if each["code"] == code)


def test_a_benchmark_solved_without_the_image_is_not_valid(store: Store, tmp_path: Path) -> None:
    write_quiz(tmp_path, 500, giveaway=0.6)
    evidence = run(store, RuleBasedScorer(), write_task(tmp_path))
    told = label(store, evidence)
    assert told["verdict"] == "no"
    blind = reason(told, "CLR-E060")
    assert blind["level"] == "no"
    assert blind["value"] == pytest.approx(0.6, abs=0.05)
    assert blind["limit"] == 0.1
    assert blind["n"] == 500
    assert "without the image" in blind["message"]
    warned = [f for f in evidence.findings if f.code == "CLR-E060"]
    assert [(f.state, f.where) for f in warned] == [("warn", "benchmark colours/test")]


def test_unanswered_questions_speak_against_the_number(store: Store, tmp_path: Path) -> None:
    write_quiz(tmp_path, 60)

    def say(request: GenerationRequest) -> str | Exception:
        colour = named_colour(request.images[0]) if request.images else ""
        return TimeoutError("too late") if colour in ("red", "blue") else colour or "none"

    evidence = run(store, ScriptedGenerator(say), write_task(tmp_path))
    told = label(store, evidence)
    silent = reason(told, "CLR-E066")
    accuracy = evidence.find("accuracy", {"task": "colours", "split": "test"})
    assert accuracy is not None
    assert accuracy.value == 1.0
    assert silent["n"] == 60
    assert silent["value"] == pytest.approx((60 - accuracy.n) / 60, abs=1e-6)
    assert silent["level"] == "no"
    assert told["verdict"] == "no"


def test_a_sound_benchmark_passes(store: Store, tmp_path: Path) -> None:
    write_quiz(tmp_path, 1500)
    evidence = run(store, RuleBasedScorer(), write_task(tmp_path))
    told = label(store, evidence)
    assert {each["code"] for each in told["passed"]} >= {"CLR-E060", "CLR-E061", "CLR-E063", "CLR-E065"}
    assert told["verdict"] == "yes", told["reasons"]
    rows = read_rows(store.blobs.get(evidence.rows))
    for measurement in evidence.measurements:
        assert measurement.recipe is None or recompute(rows, measurement) == measurement


def test_few_items_do_not_discriminate(store: Store, tmp_path: Path) -> None:
    write_quiz(tmp_path, 8)
    small = reason(label(store, run(store, RuleBasedScorer(), write_task(tmp_path))), "CLR-E062")
    assert small["level"] == "no"
    assert "detecting 5 points takes 558 more concepts" in small["message"]


def test_images_of_the_training_split_are_counted(store: Store, tmp_path: Path) -> None:
    rows = drawings(tmp_path, 40)
    seen = {0: "the same", 1: "saved again"}
    for i, how in seen.items():
        content = (tmp_path / f"{i}.png").read_bytes()
        if how == "saved again":
            out = io.BytesIO()
            Image.open(io.BytesIO(content)).resize((70, 70), Image.Resampling.BICUBIC).save(out, "JPEG", quality=80)
            content = out.getvalue()
        (tmp_path / f"copy{i}.bin.png").write_bytes(content)
        rows.append(rows[i] | {"image": f"copy{i}.bin.png", "split": "train", "concept": f"copy {i}"})
    write_table(tmp_path / "quiz.csv", rows)
    evidence = run(store, RuleBasedScorer(), write_task(tmp_path))
    told = reason(label(store, evidence), "CLR-E061")
    assert told["value"] == pytest.approx(2 / 40)
    assert told["level"] == "careful"
    share = evidence.find("contamination", {"task": "validity", "benchmark": "colours/test"})
    assert share is not None
    assert share.value == pytest.approx(2 / 40)
    assert share.interval is not None
    gain = evidence.find("contamination_gain", {"task": "validity", "benchmark": "colours/test"})
    assert gain is not None
    assert gain.n == 40


def test_other_drawings_are_not_near_copies(store: Store, tmp_path: Path) -> None:
    write_table(tmp_path / "quiz.csv", drawings(tmp_path, 60))
    data = open_data(tmp_path / "quiz.csv")
    signatures = image_signatures(data, data.samples, store.answer_cache)
    assert len(signatures) == 60
    bits = np.unpackbits(np.stack([signature[:HASH_BYTES] for signature in signatures.values()]), axis=1).astype(int)
    apart = np.abs(bits[:, None] - bits[None]).sum(-1)[~np.eye(60, dtype=bool)]
    assert apart.min() > 12


def test_the_same_shape_in_another_colour_is_another_picture(store: Store, tmp_path: Path) -> None:
    rows = []
    for i, (name, split) in enumerate([("red", "test"), ("#ff0606", "train"), ("lime", "test")]):
        image = Image.new("RGB", (64, 64), "white")
        ImageDraw.Draw(image).ellipse((10, 20, 50, 60), fill=name)
        image.save(tmp_path / f"{i}.png")
        rows.append({"image": f"{i}.png", "caption": name, "split": split})
    data = open_data(write_table(tmp_path / "discs.csv", rows))
    bench = EvaluationContext(RuleBasedScorer(), data, EvaluateConfig(), store)
    assert list(contaminated_samples(bench, data, data.split("test").samples)) == ["0.png"]


def test_repeated_items_and_options_are_found(store: Store, tmp_path: Path) -> None:
    rows = drawings(tmp_path, 30)
    rows += [rows[0] | {"concept": "again"}, rows[1] | {"concept": "again"}]
    rows[5]["choices"] = "red|lime|blue|Red."
    rows[5]["answer"] = "lime"
    write_table(tmp_path / "quiz.csv", rows)
    evidence = run(store, RuleBasedScorer(), write_task(tmp_path))
    told = reason(label(store, evidence), "CLR-E063")
    assert told["value"] == pytest.approx(3 / 32, abs=1e-5)
    assert told["level"] == "no"
    assert [f.where for f in evidence.findings if f.code == "CLR-E050"] == ["000006"]


def test_one_image_with_two_labels_is_a_doubtful_label(store: Store, tmp_path: Path) -> None:
    rows = drawings(tmp_path, 30)
    rows.append(rows[0] | {"answer": next(c for c in rows[0]["choices"].split("|") if c != rows[0]["answer"])})
    write_table(tmp_path / "quiz.csv", rows)
    told = reason(label(store, run(store, RuleBasedScorer(), write_task(tmp_path))), "CLR-E065")
    assert told["value"] == pytest.approx(2 / 31, abs=1e-5)
    assert "2 items share an image" in told["message"]


def test_labels_that_several_models_contradict_are_doubtful(store: Store, tmp_path: Path) -> None:
    table = write_quiz(tmp_path, 40)
    rows = table.read_text().splitlines()
    # A wrong label: what the picture shows is another of its options.
    cells = rows[1].split(",")
    right = cells[-4]
    cells[-4] = next(c for c in cells[-5].split("|") if c != right)
    rows[1] = ",".join(cells)
    table.write_text("\n".join(rows) + "\n")
    sharp = RuleBasedScorer()
    sharp.sure = 9.0
    run(store, sharp, write_task(tmp_path))
    other = RuleBasedScorer(order_matters=True)
    other.sure = 9.0
    told = reason(label(store, run(store, other, write_task(tmp_path))), "CLR-E065")
    assert told["value"] == pytest.approx(1 / 40)
    assert "several models confidently contradict 1" in told["message"]


def test_items_that_every_model_solves_do_not_discriminate(store: Store, tmp_path: Path) -> None:
    write_quiz(tmp_path, 50)
    alone = label(store, run(store, RuleBasedScorer(), write_task(tmp_path)))
    assert "CLR-E064" not in {each["code"] for each in alone["reasons"] + alone["passed"]}
    both = label(store, run(store, RuleBasedScorer(order_matters=True), write_task(tmp_path)))
    assert reason(both, "CLR-E064")["value"] == 1.0
    assert both["verdict"] == "no"
    # The other model's label is stale now, for it reads this one's answers; the rest of its evidence is not.
    model = RuleBasedScorer()
    again = label(store, run(store, model, write_task(tmp_path)))
    assert model.asked == 0
    assert reason(again, "CLR-E064")["value"] == 1.0


def test_checkpoints_of_one_training_are_no_other_models(store: Store, tmp_path: Path) -> None:
    write_quiz(tmp_path, 50)
    one, other = RuleBasedScorer(), RuleBasedScorer(order_matters=True)
    facts = Tags(model=one.digest, early_model=other.digest)
    store.put_evidence(Evidence("train", Subject(model=one.digest), (), (), Cost(0, 0, 0), "2026-01-01", facts=facts))
    run(store, one, write_task(tmp_path))
    told = label(store, run(store, other, write_task(tmp_path)))
    assert "CLR-E064" not in {each["code"] for each in told["reasons"] + told["passed"]}


def test_nothing_changed_is_nothing_made_again(store: Store, tmp_path: Path) -> None:
    write_quiz(tmp_path, 12)
    first = run(store, RuleBasedScorer(), write_task(tmp_path))
    assert run(store, RuleBasedScorer(), write_task(tmp_path)).id == first.id
    assert len(store.find_evidence("evaluate")) == 1
    assert len(store.find_evidence("evaluate.validity")) == 1


def drawings(folder: Path, count: int) -> list[dict[str, str]]:
    """Rows about pictures of some shapes each, so that no two look alike."""
    table = write_quiz(folder, count)
    data = open_data(table, keep_columns=("question", "choices", "answer"))
    rng = np.random.default_rng(1)
    rows = []
    for i, sample in enumerate(data):
        image = Image.new("RGB", (64, 64), "white")
        draw = ImageDraw.Draw(image)
        for _ in range(5):
            x, y, w, h = rng.integers(0, 64, 4).tolist()
            draw.rectangle((x, y, x + w // 2 + 4, y + h // 2 + 4), fill=tuple(rng.integers(0, 256, 3).tolist()))
        image.save(folder / f"{i}.png")
        kept = {name: sample.groups[name] for name in ("question", "choices", "answer")}
        rows.append({"image": f"{i}.png", **kept, "concept": sample.concept, "size": "any", "split": "test"})
    return rows
