"""Tasks end to end: from a TOML file and a table to measurements with intervals."""

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from tests.support.colour_tiles import ColourModel
from tests.support.paired_rows import put_model
from tests.support.task_files import (
    NAMES,
    TASK,
    IncapableModel,
    RuleBasedScorer,
    ScriptedGenerator,
    named_colour,
    write_quiz,
    write_table,
    write_task,
)

from clerestory.core.codec import Tags
from clerestory.core.errors import CapabilityError, ConfigError, DataError
from clerestory.core.evidence import Evidence, Finding
from clerestory.core.release import Decision, Policy, Rule
from clerestory.data import open_data
from clerestory.models.protocols import CaptionCandidate, GenerationRequest
from clerestory.models.replies.keys import normalize_answer
from clerestory.models.replies.reading import read_choice
from clerestory.stages.evaluate import EvaluateConfig, evaluate
from clerestory.stages.evaluate.tasks import load_task, required_capabilities
from clerestory.stages.evaluate.tasks.answer_parsing import correct_option, parse_yes_no
from clerestory.stages.evaluate.tasks.items import open_task_data
from clerestory.stages.release import gate
from clerestory.stats.aggregate import recompute
from clerestory.stats.rows import read_rows
from clerestory.store import Store


def run(store: Store, model: object, file: Path) -> Evidence:
    data = open_task_data(load_task(file))
    return evaluate(model, data, EvaluateConfig(suites=("tasks",), tasks=(str(file),)), store)


def value(evidence: Evidence, name: str, **where: str) -> float:
    found = evidence.find(name, {"task": "colours", "split": "test", **where})
    assert found is not None, [m.key for m in evidence.measurements]
    return found.value


def test_blind_solvable_items_are_measured(store: Store, tmp_path: Path) -> None:
    write_quiz(tmp_path, 2000, giveaway=0.3)
    evidence = run(store, RuleBasedScorer(), write_task(tmp_path))
    assert value(evidence, "accuracy") == 1.0
    assert value(evidence, "blind_solvable") == pytest.approx(0.30, abs=0.03)
    assert value(evidence, "blind_gain") == pytest.approx(1 - value(evidence, "accuracy", condition="blind"))
    solvable = evidence.find("blind_solvable", {"task": "colours", "split": "test"})
    assert solvable is not None
    assert solvable.interval is not None
    assert solvable.interval.low < 0.30 < solvable.interval.high
    rows = read_rows(store.blobs.get(evidence.rows))
    for measurement in evidence.measurements:
        assert recompute(rows, measurement) == measurement


def test_without_blind_solvable_items_the_share_is_zero(store: Store, tmp_path: Path) -> None:
    write_quiz(tmp_path, 800)
    assert value(run(store, RuleBasedScorer(), write_task(tmp_path)), "blind_solvable") == pytest.approx(0, abs=0.045)


def test_a_model_that_only_likes_the_first_option_earns_chance(store: Store, tmp_path: Path) -> None:
    write_quiz(tmp_path, 60)
    evidence = run(store, RuleBasedScorer(order_matters=True, favours_first=True), write_task(tmp_path))
    assert value(evidence, "accuracy") == pytest.approx(0.25)
    assert value(evidence, "accuracy_all_orders") == 0.0


def test_a_shuffled_picture_is_never_its_own(store: Store, tmp_path: Path) -> None:
    write_quiz(tmp_path, 40)
    rows = read_rows(store.blobs.get(run(store, RuleBasedScorer(), write_task(tmp_path)).rows))
    own = {s: i for s, i, c in zip(rows["sample"], rows["image"], rows["condition"], strict=True) if c == "clean"}
    shuffled = {s: i for s, i, c in zip(rows["sample"], rows["image"], rows["condition"], strict=True) if "shuf" in c}
    assert set(own) == set(shuffled)
    assert all(own[sample] != shuffled[sample] for sample in own)
    assert sorted(own.values()) == sorted(shuffled.values())
    blind = rows["image"][rows["condition"] == "blind"]
    assert set(blind.tolist()) == {""}


def test_answers_are_asked_once_and_a_changed_question_is_asked_again(store: Store, tmp_path: Path) -> None:
    table = write_quiz(tmp_path, 20)
    model = RuleBasedScorer()
    first = run(store, model, write_task(tmp_path))
    assert model.asked == 60
    assert run(store, model, tmp_path / "mine.toml").id == first.id
    assert model.asked == 60
    table.write_text(table.read_text().replace("Which colour has tile 3,", "What colour has tile 3,"))
    again = run(store, model, tmp_path / "mine.toml")
    assert again.id != first.id
    assert model.asked == 63


def test_replies_are_parsed_by_letter_by_text_and_by_mention(store: Store, tmp_path: Path) -> None:
    write_quiz(tmp_path, 24)

    def say(request: GenerationRequest) -> str | Exception:
        if not request.images:
            return TimeoutError("it took longer than 60 s")
        colour = named_colour(request.images[0])
        lines = request.prompt.splitlines()
        letter = next((line[0] for line in lines if line.endswith(f". {colour}")), "none of these")
        forms = (letter, f"({letter})", f"The answer is {letter}.", colour.upper(), f"It looks {colour} to me!")
        return forms[len(colour) % len(forms)]

    evidence = run(store, ScriptedGenerator(say), write_task(tmp_path))
    assert value(evidence, "accuracy") == 1.0
    assert value(evidence, "accuracy_all_orders") == 1.0
    assert evidence.find("blind_gain", {"task": "colours", "split": "test"}) is None
    unscored = [f for f in evidence.findings if f.code == "CLR-E008"]
    assert len(unscored) == 1
    assert "24 samples" in unscored[0].message
    assert "longer than 60 s" in unscored[0].message


def test_an_item_of_which_one_order_failed_is_unscored(store: Store, tmp_path: Path) -> None:
    """Who always says A would earn 1 of 3 instead of 1 of 4 if the failed order were left out of the mean."""
    write_quiz(tmp_path, 12)
    answers = {sample.groups["answer"] for sample in open_task_data(load_task(write_task(tmp_path)))}

    def say(request: GenerationRequest) -> str | Exception:
        options = [line for line in request.prompt.splitlines() if line[:3] in ("A. ", "D. ")]
        told = [line[3:] for line in options]
        seen = named_colour(request.images[0]) if request.images else min(answers)
        return ConnectionError("HTTP 500") if told[1] == seen else "A"

    evidence = run(store, ScriptedGenerator(say), write_task(tmp_path))
    assert evidence.find("accuracy", {"task": "colours", "split": "test"}) is None
    rows = read_rows(store.blobs.get(evidence.rows))
    clean = rows["condition"] == "clean"
    assert set(rows["unscored"][clean].tolist()) == {"no_answer"}
    assert set(rows["unscored_detail"][clean].tolist()) == {"HTTP 500"}
    assert np.isnan(rows["score"][clean].astype(float)).all()


def test_the_gain_is_over_items_that_are_scored_with_and_without_the_picture(store: Store, tmp_path: Path) -> None:
    """Blind answers fail where the question is hard: the gain of the rest is 0, whatever the hard ones would say."""
    write_quiz(tmp_path, 20)
    short = TASK.replace("multiple_choice", "short_answer").replace('options = "choices"\n', "")

    def say(request: GenerationRequest) -> str | Exception:
        hard = int(request.prompt.partition("tile ")[2].partition(",")[0]) % 2
        if not request.images:
            return ConnectionError("HTTP 500") if hard else "none"
        return named_colour(request.images[0]) if hard else "none"

    evidence = run(store, ScriptedGenerator(say), write_task(tmp_path, short))
    gain = evidence.find("blind_gain", {"task": "colours", "split": "test"})
    assert gain is not None
    assert value(evidence, "accuracy") == 0.5
    assert (gain.value, gain.n, gain.clusters) == (0.0, 10, 10)
    assert recompute(read_rows(store.blobs.get(evidence.rows)), gain) == gain


def test_a_refusal_and_an_empty_reply_are_unscored(store: Store, tmp_path: Path) -> None:
    write_quiz(tmp_path, 10)
    refusing = run(
        store, ScriptedGenerator(lambda _: "I am sorry, I cannot help with that.", "sorry"), write_task(tmp_path)
    )
    assert refusing.find("accuracy", {"task": "colours", "split": "test"}) is None
    assert value(refusing, "not_understood") == 1.0
    silent = run(store, ScriptedGenerator(lambda _: "  ", "silent"), write_task(tmp_path))
    assert not [m for m in silent.measurements if m.slice.get("condition") != "majority"]
    assert any("the reply is empty" in f.message for f in silent.findings)


def test_errors_are_asked_again(store: Store, tmp_path: Path) -> None:
    write_quiz(tmp_path, 6)
    data = open_task_data(load_task(write_task(tmp_path)))
    config = EvaluateConfig(suites=("tasks",), tasks=(str(tmp_path / "mine.toml"),))
    broken = ScriptedGenerator(lambda _: ConnectionError("HTTP 500"))
    first = evaluate(broken, data, config, store)
    assert not first.find("accuracy", {"task": "colours", "split": "test"})
    asked = len(broken.prompts)
    again = evaluate(broken, data, config, store)
    assert len(broken.prompts) == 2 * asked
    unanswered = [f for f in again.findings if f.code == "CLR-E008"]
    assert [(f.reason, f.count, f.details["task"], f.details["split"]) for f in unanswered] == [
        ("no_answer", 6, "colours", "test")
    ]
    assert "only the unanswered samples are requested" in unanswered[0].fix
    assert "6 samples of split 'test' are unscored for colours (18 times)" in unanswered[0].message
    assert "HTTP 500" in unanswered[0].message
    mended = evaluate(ScriptedGenerator(lambda _: "A"), data, config, store)
    assert mended.find("accuracy", {"task": "colours", "split": "test"})
    silent = ScriptedGenerator(lambda _: ConnectionError("HTTP 500"))
    assert evaluate(silent, data, config, store).id == mended.id
    assert not silent.prompts


def test_a_reworded_finding_changes_no_decision_of_the_gate(store: Store, tmp_path: Path) -> None:
    write_quiz(tmp_path, 6)
    evidence = run(store, ScriptedGenerator(lambda _: ConnectionError("HTTP 500")), write_task(tmp_path))
    policy = Policy("p", (Rule("colours", "accuracy", Tags(task="colours", split="test"), at_least=0.5),))

    def decide(name: str, findings: Sequence[Finding]) -> Decision:
        model = put_model(store, tmp_path / "models", name)
        subject = replace(evidence.subject, model=model)
        store.put_evidence(replace(evidence, subject=subject, findings=tuple(findings)))
        return gate(model, store, policy, evidence.subject.data)

    original = decide("original", evidence.findings)
    reworded = decide("reworded", [replace(finding, message="x") for finding in evidence.findings])
    assert [reason.cause for reason in original.reasons] == ["unanswered"]
    assert [(r.outcome, r.cause) for r in reworded.reasons] == [(r.outcome, r.cause) for r in original.reasons]
    other = decide("other", [replace(finding, reason="unreadable_image") for finding in evidence.findings])
    assert [reason.cause for reason in other.reasons] == ["unknown_measurement"], "the reason of the finding decides"


class UnreliableCaptioner:
    """A ``Captioner`` behind an endpoint that may be down."""

    digest = "c" * 64
    last_error = "HTTP 500"
    asked = 0

    def caption_images(self, images: Sequence[Image.Image], n: int = 3) -> list[list[CaptionCandidate]]:
        self.asked += len(images)
        return [[] if self.last_error else [CaptionCandidate("a red tile", -1.0)] for _ in images]


def test_captions_that_an_endpoint_did_not_give_are_asked_for_again(store: Store, tmp_path: Path) -> None:
    write_quiz(tmp_path, 6)
    task = 'name = "colours"\nkind = "caption"\ndata = "quiz.csv"\n'
    table = (tmp_path / "quiz.csv").read_text().splitlines()
    (tmp_path / "quiz.csv").write_text("\n".join([table[0] + ",caption", *(f"{row},a red tile" for row in table[1:])]))
    file, model = write_task(tmp_path, task), UnreliableCaptioner()
    first = run(store, model, file)
    assert any(f.reason == "no_answer" and "HTTP 500" in f.message for f in first.findings if f.code == "CLR-E008")
    model.last_error = ""
    assert value(run(store, model, file), "chrf") == 1.0
    assert model.asked == 12
    config = EvaluateConfig(suites=("tasks",), tasks=(str(file),), seed=1)
    evaluate(model, open_task_data(load_task(file)), config, store)
    assert model.asked == 12


def test_pictures_kept_out_of_a_task_are_named(store: Store, tmp_path: Path) -> None:
    write_quiz(tmp_path, 6)
    (tmp_path / "00002.png").write_bytes(b"no picture")
    evidence = run(store, RuleBasedScorer(), write_task(tmp_path))
    assert [f.where for f in evidence.findings if f.code == "CLR-D001"] == ["quiz.csv, row 3"]


def test_yes_or_no_and_short_answers(store: Store, tmp_path: Path) -> None:
    write_quiz(tmp_path, 8)
    short = TASK.replace("multiple_choice", "short_answer").replace('options = "choices"\n', "")
    seeing = ScriptedGenerator(lambda request: f"A {named_colour(request.images[0])}." if request.images else "red")
    evidence = run(store, seeing, write_task(tmp_path, short))
    assert value(evidence, "accuracy") == 1.0
    rows = [
        {"image": f"{i:05d}.png", "question": f"Is it {colour}?", "truth": "True" if i % 2 else "no", "split": "test"}
        for i, colour in enumerate(["red"] * 8)
    ]
    write_table(tmp_path / "quiz.csv", rows)
    task = 'name = "colours"\nkind = "yes_no"\ndata = "quiz.csv"\nquestion = "question"\nanswer = "truth"\n'
    always = run(store, ScriptedGenerator(lambda _: "Yes, it is.", "yes"), write_task(tmp_path, task))
    assert value(always, "accuracy") == 0.5
    assert value(always, "blind_gain") == 0.0


def embedder_table(folder: Path) -> Path:
    write_quiz(folder, 64)
    rows = open_data(folder / "quiz.csv")
    table = [
        {"image": s.source, "colour": s.groups["answer"], "caption": f"{s.groups['answer']} tile", "split": split}
        for i, s in enumerate(rows)
        for split in ["train" if i % 2 else "test"]
    ]
    return write_table(folder / "classes.csv", table)


@pytest.mark.parametrize("kind", ["zero_shot", "linear_probe", "knn"])
def test_classes_of_an_embedder(store: Store, tmp_path: Path, kind: str) -> None:
    embedder_table(tmp_path)
    task = f'name = "colours"\nkind = "{kind}"\ndata = "classes.csv"\nlabel = "colour"\n'
    evidence = run(store, ColourModel(), write_task(tmp_path, task))
    # ColourModel knows only half of these names as words, so it errs on some of them.
    assert value(evidence, "accuracy") > value(evidence, "accuracy", condition="shuffled_image") + 0.2
    assert evidence.facts["task.colours.classes"] == 8


def test_retrieval_and_captions(store: Store, tmp_path: Path) -> None:
    embedder_table(tmp_path)
    task = 'name = "colours"\nkind = "retrieval"\ndata = "classes.csv"\n'
    evidence = run(store, ColourModel(), write_task(tmp_path, task))
    assert {m.slice["operation"] for m in evidence.measurements} == {"image_to_text", "text_to_image"}
    evidence = run(store, ColourModel(), write_task(tmp_path, task.replace("retrieval", "caption")))
    assert 0.3 < value(evidence, "chrf") <= 1


def test_a_small_group_is_named_and_not_measured(store: Store, tmp_path: Path) -> None:
    table = write_quiz(tmp_path, 30)
    text = table.read_text().splitlines()
    text[1] = text[1].replace("small", "tiny")
    text[3] = text[3].replace("small", "tiny")
    table.write_text("\n".join(text))
    evidence = run(store, RuleBasedScorer(), write_task(tmp_path))
    assert [m.slice["size"] for m in evidence.measurements if "size" in m.slice] == ["large", "small"]
    small = [f for f in evidence.findings if f.code == "CLR-E022"]
    assert len(small) == 1
    assert (small[0].count, small[0].details["minimum"]) == (2, 10)
    assert "2 concepts, below the minimum of 10" in small[0].message
    assert "min_group_concepts" in small[0].fix


def test_a_missing_column_is_one_sentence(store: Store, tmp_path: Path) -> None:
    write_quiz(tmp_path, 3)
    with pytest.raises(DataError) as caught:
        run(store, RuleBasedScorer(), write_task(tmp_path, TASK.replace('"choices"', '"choice"')))
    assert "no column 'choice'" in caught.value.message
    assert "'choices'" in caught.value.fix
    assert caught.value.closest[0] == "choices"


def test_for_a_model_without_the_capability_others_are_suggested(store: Store, tmp_path: Path) -> None:
    write_quiz(tmp_path, 3)
    with pytest.raises(CapabilityError) as caught:
        run(store, IncapableModel(), write_task(tmp_path))
    assert "'colours' needs a model that can" in caught.value.message
    assert "hf:org/name" in caught.value.fix
    assert required_capabilities(load_task(tmp_path / "mine.toml")) == ("Scorer", "Generator")


def test_embeddings_of_nan_are_one_sentence(store: Store, tmp_path: Path) -> None:
    class Broken(ColourModel):
        digest = "broken"

        def __init__(self) -> None:
            super().__init__()
            self.digest = "broken"

        def embed_images(self, images: object, dim: int | None = None) -> np.ndarray:
            return super().embed_images(images, dim) * np.nan  # type: ignore[arg-type]  # only handed on

    embedder_table(tmp_path)
    task = 'name = "colours"\nkind = "zero_shot"\ndata = "classes.csv"\nlabel = "colour"\n'
    with pytest.raises(CapabilityError, match="NaN"):
        run(store, Broken(), write_task(tmp_path, task))


@pytest.mark.parametrize(
    ("text", "said"),
    [
        (TASK.replace("kind", "knid"), "no setting 'knid'"),
        (TASK.replace('"multiple_choice"', '"multiple_chioce"'), "multiple_chioce"),
        (TASK.replace('answer = "answer"', ""), "lacks the setting 'answer'"),
        (TASK + 'prompts = ["What?"]', "does not contain {question}"),
        (TASK + 'metrics = ["recall@1"]', "cannot measure 'recall@1'"),
        (TASK + "chance = 1.5", "chance must be at least 0 and below 1, not 1.5"),
        ("name = ", "not valid TOML"),
    ],
)
def test_a_wrong_task_is_one_sentence(tmp_path: Path, text: str, said: str) -> None:
    with pytest.raises(ConfigError) as caught:
        load_task(write_task(tmp_path, text))
    assert said in caught.value.message
    assert caught.value.fix or " must be " in caught.value.message


def test_a_task_is_at_most_thirty_lines() -> None:
    assert len(TASK.splitlines()) <= 30


@pytest.mark.parametrize(
    ("text", "place"),
    [
        ("B", 1),
        ("b)", 1),
        ("(C) a hen", 2),
        ("Answer: A", 0),
        ("The right option is C", 2),
        ("a hen.", 2),
        ("It is the horse, I think", 1),
        ("a horse or a hen", None),
        ("I do not know", None),
        ("Z", None),
    ],
)
def test_which_option_is_meant(text: str, place: int | None) -> None:
    assert read_choice(text, ("a cow", "the horse", "hen")) == place


def test_texts_are_compared_without_signs_and_articles() -> None:
    assert normalize_answer("  The  Dog!") == normalize_answer("dog") == "dog"
    assert normalize_answer("A") == "a"
    assert [parse_yes_no(t) for t in ("Yes.", "No, it is not", "perhaps", "TRUE")] == ["yes", "no", "", "yes"]


def test_an_answer_of_the_table_may_be_words_a_letter_or_a_number() -> None:
    options = ("cow", "horse", "hen")
    assert [correct_option(a, options, "x") for a in ("Horse", "B", "(b)", "1")] == [1, 1, 1, 1]
    with pytest.raises(DataError, match="is not one of its options"):
        correct_option("pig", options, "x")


def test_a_table_without_splits_is_asked_about_whole(store: Store, tmp_path: Path) -> None:
    write_quiz(tmp_path, 40)
    rows = [
        {"image": f"{i % 20:05d}.png", "colour": NAMES[i % 8], "text": "one of forty", "concept": f"thing {i}"}
        for i in range(40)
    ]
    write_table(tmp_path / "classes.csv", rows)
    task = 'name = "colours"\nkind = "zero_shot"\ndata = "classes.csv"\nlabel = "colour"\n'
    evidence = run(store, ColourModel(), write_task(tmp_path, task))
    found = evidence.find("accuracy", {"task": "colours", "split": "all"})
    assert found is not None
    assert found.n == 40
    learnt = open_task_data(load_task(write_task(tmp_path, task.replace("zero_shot", "knn"))))
    assert {sample.split for sample in learnt} >= {"train", "test"}
