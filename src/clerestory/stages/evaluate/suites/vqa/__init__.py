"""Questions about any captioned pictures: which of these is in it, is this a picture of that, what is it.

The wrong options come from the same kind of thing as the right one where the data tells kinds apart (other animals for
an animal), so that a question cannot be answered by ruling out the absurd. Every item is also asked without its
picture and with another one: a benchmark that is solved so says nothing about seeing.
"""

from __future__ import annotations

import hashlib
from collections import defaultdict
from collections.abc import Sequence

from clerestory.core.evidence import Finding
from clerestory.core.sample import Dataset, Sample
from clerestory.models.protocols import Embedder, capabilities
from clerestory.stages.evaluate.context import EvaluationContext
from clerestory.stages.evaluate.shared.retrieval_split import caption_in, concept_of, normal
from clerestory.stages.evaluate.shared.row_builder import join
from clerestory.stages.evaluate.shared.sampling import choose
from clerestory.stages.evaluate.suite import NotApplicable, Suite, SuiteResult
from clerestory.stages.evaluate.tasks.items import Item, learnt_samples
from clerestory.stages.evaluate.tasks.running import ask_items
from clerestory.stages.evaluate.tasks.task import Task, check_model

OPTIONS = 4
KINDS = ("emoji_group", "category", "class", "label")
WHICH = "Which of these is in the picture?"
IS_IT = "Is this a picture of {caption}?"
WHAT = "What is in the picture?"
SHOWS, SHOWS_NOT = "a picture of {caption}", "a picture of something else"

TASKS = {
    "multiple_choice": Task("multiple_choice", "multiple_choice", answer="answer", options=("options",)),
    "yes_no": Task("yes_no", "yes_no", question="question", answer="answer"),
    "short_answer": Task("short_answer", "short_answer", question="question", answer="answer", scorer="contains"),
}


def run(bench: EvaluationContext) -> SuiteResult:
    """The rows of every kind of question that the model can be asked."""
    config = bench.config
    able = set(capabilities(bench.model))
    if not able & {"Scorer", "Generator"}:
        raise NotApplicable(
            "the model can neither score options nor answer in words, so it was asked no questions",
            "evaluate a model that is a Scorer or a Generator",
        )
    if not config.vqa_samples:
        raise NotApplicable("no picture is to be asked about", "set asked to 300 or so")
    name, data = next(iter(bench.splits.items()))
    maker = QuestionGenerator([s for s in data if caption_in(s, config.language)], config.language, config.seed)
    samples = choose(maker.samples, config.vqa_samples, config.seed)
    learnt = choose(_learnt(bench, data), config.vqa_samples, config.seed)
    found, findings = [], maker.findings()
    for task in TASKS.values():
        if task.kind == "short_answer" and "Generator" not in able:
            continue
        capability = check_model(task, bench.model)
        items = maker.items(task.kind, samples)
        if not items:
            findings.append(_too_few(task.name, name))
            continue
        statements = _statements if task.kind == "yes_no" and isinstance(bench.model, Embedder) else None
        # Only yes or no has answers that occur again; every other answer is another caption.
        before = maker.items(task.kind, learnt) if task.kind == "yes_no" else ()
        found.append(ask_items(bench, task, data, name, items, before, capability, statements))
    return SuiteResult(
        join(each.rows for each in found),
        [measurement for each in found for measurement in each.measurements],
        [*findings, *(finding for each in found for finding in each.findings)],
        {key: value for each in found for key, value in each.facts.items()} | _facts(maker),
    )


class QuestionGenerator:
    """Makes questions out of captions, the same ones for the same seed.

    Args:
        samples: captioned pictures.
        lang: the language of their captions.
        seed: chooses the wrong options, their order, and which questions are to be answered with no.
    """

    def __init__(self, samples: Sequence[Sample], lang: str, seed: int) -> None:
        self.samples = list(samples)
        self.lang = lang
        self.seed = seed
        self.kind = next((k for k in KINDS if len({s.groups.get(k, "") for s in samples} - {""}) > 1), "")
        self._by_kind: dict[str, dict[str, str]] = defaultdict(dict)
        for sample in self.samples:
            text = caption_in(sample, lang)
            for kind in ("", self._kind(sample)):
                self._by_kind[kind].setdefault(normal(text), text)

    def items(self, kind: str, samples: Sequence[Sample]) -> list[Item]:
        """The items of one kind of question; a picture without enough wrong options is left out."""
        make = {"multiple_choice": self._multiple_choice, "yes_no": self._yes_no, "short_answer": self._short_answer}
        made = (make[kind](sample) for sample in samples)
        return [item for item in made if item is not None]

    def findings(self) -> list[Finding]:
        """That wrong options are of any kind, where the data does not tell kinds apart."""
        if self.kind:
            return []
        message = "the data has no kinds of things, so wrong options may be easy to rule out"
        fix = f"give the pictures a group such as {KINDS[1]}"
        return [Finding("CLR-E051", "info", "warn", "part vqa", message, fix)]

    def _multiple_choice(self, sample: Sample) -> Item | None:
        wrong = self._others(sample, OPTIONS - 1)
        if len(wrong) < OPTIONS - 1:
            return None
        own = caption_in(sample, self.lang)
        options = tuple(sorted((own, *wrong), key=lambda text: self._hash("order", sample.id, normal(text))))
        return Item(sample, WHICH, options, (own,), concept_of(sample, self.lang))

    def _yes_no(self, sample: Sample) -> Item | None:
        wrong = self._others(sample, 1)
        if not wrong:
            return None
        true = self._hash("true", sample.id)[0] % 2 == 0
        asked = caption_in(sample, self.lang) if true else wrong[0]
        answer = "yes" if true else "no"
        return Item(sample, IS_IT.replace("{caption}", asked), ("yes", "no"), (answer,), concept_of(sample, self.lang))

    def _short_answer(self, sample: Sample) -> Item | None:
        own = caption_in(sample, self.lang)
        return Item(sample, WHAT, (), (own,), concept_of(sample, self.lang))

    def _others(self, sample: Sample, count: int) -> list[str]:
        """Captions of other things, of the same kind as far as there are enough, by a hash."""
        own, concept = normal(caption_in(sample, self.lang)), normal(concept_of(sample, self.lang))
        found: dict[str, str] = {}
        for kind in (self._kind(sample), ""):
            some = self._by_kind[kind]
            ranked = sorted(some, key=lambda text: self._hash("wrong", sample.id, text))
            found |= {text: some[text] for text in ranked if text not in (own, concept) and text not in found}
            if len(found) >= count:
                break
        return list(found.values())[:count]

    def _kind(self, sample: Sample) -> str:
        return sample.groups.get(self.kind, "") if self.kind else ""

    def _hash(self, *parts: str) -> bytes:
        return hashlib.sha256("/".join((str(self.seed), *parts)).encode()).digest()


def _statements(item: Item) -> tuple[str, tuple[str, ...]]:
    """Yes or no as two captions, for models that compare pictures with texts and know no dialogue."""
    caption = item.question.removeprefix("Is this a picture of ").removesuffix("?")
    return "", (SHOWS.replace("{caption}", caption), SHOWS_NOT)


def _learnt(bench: EvaluationContext, asked: Dataset) -> list[Sample]:
    ids = {sample.id for sample in asked}
    plain = learnt_samples(bench.data)
    return [s for s in plain if s.id not in ids and caption_in(s, bench.config.language)]


def _facts(maker: QuestionGenerator) -> dict[str, str]:
    source = f"of the same {maker.kind}" if maker.kind else "of any kind"
    return {"vqa": f"wrong options are captions {source}, chosen by a hash of seed and picture"}


def _too_few(task: str, split: str) -> Finding:
    message = f"split {split!r} has too few different captions for questions of kind {task}"
    fix = f"bring in pictures of at least {OPTIONS} things"
    return Finding("CLR-E003", "info", "not_run", f"task {task}", message, fix)


SUITE = Suite(
    name="vqa",
    about="answering questions about pictures, with and without seeing them",
    needs=(),
    settings=("asked", "group_least"),
    run=run,
)
