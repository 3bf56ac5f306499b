"""The rows of a task's data as items: a picture, a question, and the right answer."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

from clerestory.core.errors import DataError
from clerestory.core.progress import QUIET, Progress
from clerestory.core.sample import TEST, TRAIN, VAL, Dataset, Sample
from clerestory.data import open_data
from clerestory.data.columns import no_column
from clerestory.data.splits import split_of
from clerestory.stages.evaluate.shared.retrieval_split import WHOLE, concept_of
from clerestory.stages.evaluate.shared.sampling import choose
from clerestory.stages.evaluate.tasks.answer_parsing import listed, normalised, right_option, yes_or_no
from clerestory.stages.evaluate.tasks.task import Task

OWN = ("caption", "concept", "id", "split", "licence", "source")
# Kinds that need pictures to learn from; where the data has no splits they are cut by concept.
LEARNING = ("linear_probe", "knn")
NO_ANSWER = "the data gives no right answer"


@dataclass(frozen=True, slots=True)
class Item:
    """One thing to ask.

    Attributes:
        sample: the picture.
        question: about the picture, empty where the options speak for themselves.
        options: what to choose from; empty where the answer is free.
        answers: the right answers, the first of which is *the* answer; empty where the data gives none.
        cluster: items of one cluster are not independent.
    """

    sample: Sample
    question: str
    options: tuple[str, ...]
    answers: tuple[str, ...]
    cluster: str

    @property
    def right(self) -> int:
        """The place of the right option."""
        return self.options.index(self.answers[0])


def open_task_data(task: Task, progress: Progress = QUIET) -> Dataset:
    """The data of a task, with the columns it reads among the groups of each sample.

    Raises:
        DataError: there is no such data, or a column of the task is not in it (the closest names are given).
    """
    if not task.data:
        fix = 'add data = "…" to it: a table, a folder or hf:org/name'
        raise DataError(f"the task {task.name!r} names no data", fix)
    whole = open_data(task.data, progress, task.columns)
    there = {name for sample in whole for name in sample.groups} | set(OWN)
    for column in task.columns:
        if column not in there:
            raise no_column(column, task.data, sorted(there))
    if task.kind in LEARNING and not any(sample.split for sample in whole):
        return Dataset(
            whole.name, [replace(s, split=split_of(s.concept or s.id)) for s in whole], whole.read, whole.findings
        )
    return whole


def cell(sample: Sample, column: str) -> str:
    """A sample's value in a column of the table, empty when it has none."""
    if not column:
        return ""
    return sample.groups.get(column) or (str(getattr(sample, column)) if column in OWN else "")


def items_of(task: Task, samples: Sequence[Sample]) -> list[Item]:
    """The items of some samples, in their order.

    Raises:
        DataError: an answer is none of its options, or an item has fewer than two.
    """
    return [_item(task, sample) for sample in samples]


def asked_samples(task: Task, data: Dataset, seed: int) -> tuple[str, list[Sample]]:
    """The split that is asked about, and its samples: at most ``task.most``, chosen by a hash of seed and id.

    Raises:
        NotFound: the data has no such split.
    """
    splits = {sample.split for sample in data}
    name = task.split or (TEST if TEST in splits else WHOLE)
    some = data.samples if name == WHOLE else data.split(name).samples
    return name, choose(some, task.most, seed) if task.most else list(some)


def learnt_samples(data: Dataset) -> list[Sample]:
    """The samples of the training and tuning splits."""
    return [sample for sample in data if sample.split in (TRAIN, VAL)]


def _item(task: Task, sample: Sample) -> Item:
    question, answer = cell(sample, task.question), cell(sample, task.answer or task.label)
    cluster = cell(sample, task.cluster) or concept_of(sample, "en")
    options: tuple[str, ...] = ()
    answers: tuple[str, ...]
    if task.kind == "multiple_choice":
        options = listed(cell(sample, task.options[0])) if len(task.options) == 1 else _columns(task, sample)
        if len(options) < 2:
            raise DataError(
                f"item {sample.id!r} of the task {task.name!r} has {len(options)} options, and a choice needs two",
                "give a list, or texts separated by | in the column of the options",
            )
        answers = (options[right_option(answer, options, f"item {sample.id!r}")],) if answer else ()
    elif task.kind == "yes_no":
        options, answers = ("yes", "no"), tuple(filter(None, [yes_or_no(answer)]))
    else:
        answers = listed(answer) if task.kind == "short_answer" else tuple(filter(None, [answer]))
    return Item(sample, question, options, answers, cluster)


def _columns(task: Task, sample: Sample) -> tuple[str, ...]:
    return tuple(text for column in task.options if (text := cell(sample, column)))


def repeated_options(items: Sequence[Item]) -> list[Item]:
    """The items of which two options are the same but for case, signs and articles."""
    return [item for item in items if len({normalised(option) for option in item.options}) < len(item.options)]
