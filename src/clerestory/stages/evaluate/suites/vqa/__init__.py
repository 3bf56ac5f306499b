"""Visual question answering: questions generated from captions, with and without the image.

Distractors come from the same category as the correct option where the data has categories (other animals for an
animal), so that a question cannot be answered by excluding the absurd. Every item is also asked without its image and
with another one: a benchmark that can be solved so does not measure vision.
"""

from __future__ import annotations

import hashlib
from collections import defaultdict
from collections.abc import Sequence

from clerestory.core.evidence import Finding
from clerestory.core.rows import TaskName
from clerestory.core.sample import Dataset, Sample
from clerestory.models.protocols import Embedder, capabilities
from clerestory.stages.evaluate import findings
from clerestory.stages.evaluate.context import EvaluationContext
from clerestory.stages.evaluate.row_builder import join_rows
from clerestory.stages.evaluate.samples import caption_in, concept_of, normalize_caption, select_samples
from clerestory.stages.evaluate.suite import MeasuredSlices, NotApplicable, Suite, SuiteResult
from clerestory.stages.evaluate.tasks.items import TaskItem, training_samples
from clerestory.stages.evaluate.tasks.run import run_items
from clerestory.stages.evaluate.tasks.task import Task, check_model

NUM_OPTIONS = 4
CATEGORY_GROUPS = ("emoji_group", "category", "class", "label")
WHICH = "Which of these is in the picture?"
IS_IT = "Is this a picture of {caption}?"
WHAT = "What is in the picture?"
STATEMENT, COUNTER_STATEMENT = "a picture of {caption}", "a picture of something else"
PLACE = "{caption}"

TASKS = (
    Task(str(TaskName.MULTIPLE_CHOICE), "multiple_choice", answer="answer", options=("options",)),
    Task(str(TaskName.YES_NO), "yes_no", question="question", answer="answer"),
    Task(str(TaskName.SHORT_ANSWER), "short_answer", question="question", answer="answer", scorer="contains"),
)


def run(context: EvaluationContext) -> SuiteResult:
    """The rows of every kind of question that the model supports."""
    config = context.config
    supported = set(capabilities(context.model))
    if not supported & {"Scorer", "Generator"}:
        raise NotApplicable(
            "the model can neither score options nor generate answers",
            "evaluate a model that is a Scorer or a Generator",
        )
    if not config.vqa_samples:
        raise NotApplicable("vqa_samples is 0, so no questions are generated", "set vqa_samples to about 300")
    split = context.first_split
    data, language = context.splits[split], config.language
    generator = QuestionGenerator([s for s in data if caption_in(s, language)], language, config.seed)
    samples = select_samples(generator.samples, config.vqa_samples, config.seed)
    train = select_samples(_train_samples(context, data), config.vqa_samples, config.seed)
    results, notes = [], generator.findings()
    for task in TASKS:
        if task.kind == "short_answer" and "Generator" not in supported:
            continue
        capability = check_model(task, context.model)
        items = generator.items(task.kind, samples)
        if not items:
            notes.append(_too_few_captions(task.name, split))
            continue
        # Models that compare images with texts cannot answer yes or no, but can compare two statements.
        by_statements = task.kind == "yes_no" and isinstance(context.model, Embedder)
        statements = generator.statements if by_statements else None
        # Only yes or no has answers that recur; every other answer is another caption.
        train_items = generator.items(task.kind, train) if task.kind == "yes_no" else ()
        results.append(run_items(context, task, data, split, items, train_items, capability, statements))
    return SuiteResult(
        join_rows(result.rows for result in results),
        [measurement for result in results for measurement in result.measurements],
        [*notes, *(finding for result in results for finding in result.findings)],
        {name: value for result in results for name, value in result.facts.items()}
        | {"vqa.distractors_from": generator.category_group},
    )


class QuestionGenerator:
    """Generates questions from captions, the same ones for the same seed.

    Args:
        samples: captioned images.
        language: of their captions.
        seed: selects the distractors, their order, and the questions whose answer is no.
    """

    def __init__(self, samples: Sequence[Sample], language: str, seed: int) -> None:
        self.samples = list(samples)
        self.language = language
        self.seed = seed
        self.category_group = next(
            (name for name in CATEGORY_GROUPS if len({s.groups.get(name, "") for s in samples} - {""}) > 1), ""
        )
        self._by_category: dict[str, dict[str, str]] = defaultdict(dict)
        for sample in self.samples:
            text = caption_in(sample, language)
            for category in ("", self._category(sample)):
                self._by_category[category].setdefault(normalize_caption(text), text)

    def items(self, kind: str, samples: Sequence[Sample]) -> list[TaskItem]:
        """The items of one kind of question; an image without enough distractors is left out."""
        make = {"multiple_choice": self._multiple_choice, "yes_no": self._yes_no, "short_answer": self._short_answer}
        items = (make[kind](sample) for sample in samples)
        return [item for item in items if item is not None]

    def statements(self, item: TaskItem) -> tuple[str, tuple[str, ...]]:
        """The question and the options yes and no of an item as two captions."""
        caption, _ = self._asserted(item.sample)
        return "", (STATEMENT.replace(PLACE, caption), COUNTER_STATEMENT)

    def findings(self) -> list[Finding]:
        """A finding if distractors are of any category because the data has none."""
        if self.category_group:
            return []
        message = "the data has no categories, so distractors may be easy to exclude"
        return [findings.UNGROUPED_DISTRACTORS.finding("suite vqa", message)]

    def _multiple_choice(self, sample: Sample) -> TaskItem | None:
        distractors = self._distractors(sample, NUM_OPTIONS - 1)
        if len(distractors) < NUM_OPTIONS - 1:
            return None
        own = caption_in(sample, self.language)
        order = sorted((own, *distractors), key=lambda text: self._hash("order", sample.id, normalize_caption(text)))
        return TaskItem(sample, WHICH, tuple(order), (own,), concept_of(sample, self.language))

    def _yes_no(self, sample: Sample) -> TaskItem | None:
        caption, answer = self._asserted(sample)
        if not caption:
            return None
        question = IS_IT.replace(PLACE, caption)
        return TaskItem(sample, question, ("yes", "no"), (answer,), concept_of(sample, self.language))

    def _asserted(self, sample: Sample) -> tuple[str, str]:
        """The caption that a question asserts about an image, and whether it is correct; empty without distractors."""
        distractors = self._distractors(sample, 1)
        if not distractors:
            return "", ""
        correct = self._hash("true", sample.id)[0] % 2 == 0
        return (caption_in(sample, self.language), "yes") if correct else (distractors[0], "no")

    def _short_answer(self, sample: Sample) -> TaskItem | None:
        own = caption_in(sample, self.language)
        return TaskItem(sample, WHAT, (), (own,), concept_of(sample, self.language))

    def _distractors(self, sample: Sample, count: int) -> list[str]:
        """Captions of other concepts by a hash, of the same category as far as there are enough."""
        own = normalize_caption(caption_in(sample, self.language))
        concept = normalize_caption(concept_of(sample, self.language))
        found: dict[str, str] = {}
        for category in (self._category(sample), ""):
            captions = self._by_category[category]
            ranked = sorted(captions, key=lambda text: self._hash("wrong", sample.id, text))
            found |= {text: captions[text] for text in ranked if text not in (own, concept) and text not in found}
            if len(found) >= count:
                break
        return list(found.values())[:count]

    def _category(self, sample: Sample) -> str:
        return sample.groups.get(self.category_group, "") if self.category_group else ""

    def _hash(self, *names: str) -> bytes:
        return hashlib.sha256("/".join((str(self.seed), *names)).encode()).digest()


def _train_samples(context: EvaluationContext, evaluated: Dataset) -> list[Sample]:
    ids = {sample.id for sample in evaluated}
    language = context.config.language
    return [s for s in training_samples(context.data) if s.id not in ids and caption_in(s, language)]


def _too_few_captions(task: str, split: str) -> Finding:
    message = f"split {split!r} has too few different captions for questions of kind {task}"
    fix = f"add images of at least {NUM_OPTIONS} concepts"
    return findings.UNUSABLE_SPLIT.finding(f"task {task}", message, fix=fix, severity="info")


SUITE = Suite(
    name="vqa",
    description="answering questions about images, with and without the image",
    capabilities=(),
    settings=("vqa_samples", "min_group_concepts", "max_reply_tokens"),
    run=run,
    measures=(MeasuredSlices((TaskName.MULTIPLE_CHOICE, TaskName.YES_NO, TaskName.SHORT_ANSWER)),),
)
