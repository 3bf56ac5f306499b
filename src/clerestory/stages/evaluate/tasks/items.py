"""The samples of a task's data as items: an image, a question, and the correct answer."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, replace

from clerestory.core.errors import DataError
from clerestory.core.progress import QUIET, Progress
from clerestory.core.rows import ALL_SAMPLES
from clerestory.core.sample import TEST, TRAIN, VAL, Dataset, Sample
from clerestory.data import open_data
from clerestory.data.columns import missing_column
from clerestory.data.splits import SHARES, hash_position, split_of
from clerestory.models.replies.keys import normalize_answer
from clerestory.stages.evaluate.samples import concept_of, select_samples
from clerestory.stages.evaluate.tasks.answer_parsing import correct_option, parse_list, parse_yes_no
from clerestory.stages.evaluate.tasks.task import Task

# Fields of a sample that a task can use like a column.
SAMPLE_FIELDS = ("caption", "concept", "id", "split", "licence", "source")
# Kinds that need training images; data without splits is split by concept for them, or by image within each class.
TRAINED_KINDS = ("linear_probe", "knn")


@dataclass(frozen=True, slots=True)
class TaskItem:
    """One question about one image.

    Attributes:
        sample: the image.
        question: about the image; empty if the options are compared alone.
        options: to choose from; empty for a free answer.
        answers: the correct answers, the preferred one first; empty if the data has none.
        cluster: the cluster of the item; items of one cluster are not independent.
    """

    sample: Sample
    question: str
    options: tuple[str, ...]
    answers: tuple[str, ...]
    cluster: str

    @property
    def correct_option(self) -> int:
        """The index of the correct option."""
        return self.options.index(self.answers[0])


def open_task_data(task: Task, progress: Progress = QUIET) -> Dataset:
    """The data of a task, with its columns among the groups of each sample.

    Raises:
        DataError: the data does not exist, or lacks a column of the task (names the closest ones).
    """
    if not task.data:
        fix = 'add data = "…" to it: a table, a folder or hf:org/name'
        raise DataError(f"the task {task.name!r} has no data", fix)
    data = open_data(task.data, progress, task.columns)
    columns = {name for sample in data for name in sample.groups} | set(SAMPLE_FIELDS)
    for column in task.columns:
        if column not in columns:
            raise missing_column(column, task.data, sorted(columns))
    needs_split = task.kind in TRAINED_KINDS and not any(sample.split for sample in data)
    if classes_are_concepts(task, data):
        # The class says nothing about which images belong together, so each image stands for itself.
        splits = stratified_splits(data, task.label) if needs_split else {}
        samples = [replace(s, concept=s.id, split=splits.get(s.id, s.split)) for s in data]
        return Dataset(data.name, samples, data.read, data.findings)
    if needs_split:
        samples = [replace(sample, split=split_of(sample.concept or sample.id)) for sample in data]
        return Dataset(data.name, samples, data.read, data.findings)
    return data


def classes_are_concepts(task: Task, data: Dataset) -> bool:
    """Whether all images of a class have the same concept, as in a table whose column ``label`` is both.

    To split by concept would then put every class into one split, and to cluster by concept would leave one cluster
    per class.
    """
    concepts: dict[str, set[str]] = {}
    counts = Counter[str]()
    for sample in data:
        label = column_value(sample, task.label)
        if label:
            concepts.setdefault(label, set()).add(concept_of(sample, "en"))
            counts[label] += 1
    return bool(concepts) and max(counts.values()) > 1 and all(len(some) == 1 for some in concepts.values())


def stratified_splits(data: Dataset, label: str) -> dict[str, str]:
    """The split of each sample by its id: a tenth of the images of each class is ``test``, a tenth ``val``.

    A class of two images or more has one in ``train`` and one in ``test``. Samples with the same image are in the same
    split.
    """
    image_class: dict[str, str] = {}
    for sample in data:
        image_class.setdefault(sample.image, column_value(sample, label))
    by_class: dict[str, list[str]] = {}
    first_id = {sample.image: sample.id for sample in reversed(data.samples)}
    for image, name in image_class.items():
        by_class.setdefault(name, []).append(image)
    split_of_image: dict[str, str] = {}
    for images in by_class.values():
        ordered = sorted(images, key=lambda image: hash_position(first_id[image]))
        share = max(1, round(len(ordered) * SHARES[TEST])) if len(ordered) > 1 else 0
        held_out = round(len(ordered) * SHARES[VAL]) if len(ordered) > share + 1 else 0
        for i, image in enumerate(ordered):
            split_of_image[image] = TEST if i < share else VAL if i < share + held_out else TRAIN
    return {sample.id: split_of_image[sample.image] for sample in data}


def column_value(sample: Sample, column: str) -> str:
    """A sample's value in a column of the table, empty if it has none."""
    if not column:
        return ""
    return sample.groups.get(column) or (str(getattr(sample, column)) if column in SAMPLE_FIELDS else "")


def make_items(task: Task, samples: Sequence[Sample]) -> list[TaskItem]:
    """The items of some samples, in their order.

    Raises:
        DataError: an answer is not one of its options, or an item has fewer than two options.
    """
    return [_make_item(task, sample) for sample in samples]


def select_task_samples(task: Task, data: Dataset, seed: int) -> tuple[str, list[Sample]]:
    """The evaluated split and its samples: at most ``task.max_items``, selected by a hash of seed and id.

    Raises:
        NotFound: the data has no such split.
    """
    splits = {sample.split for sample in data}
    name = task.split or (TEST if TEST in splits else ALL_SAMPLES)
    samples = data.samples if name == ALL_SAMPLES else data.split(name).samples
    return name, select_samples(samples, task.max_items, seed) if task.max_items else list(samples)


def training_samples(data: Dataset) -> list[Sample]:
    """The samples of the splits ``train`` and ``val``."""
    return [sample for sample in data if sample.split in (TRAIN, VAL)]


def items_with_duplicate_options(items: Sequence[TaskItem]) -> list[TaskItem]:
    """The items with two options that differ only in case, punctuation and articles."""
    return [item for item in items if len({normalize_answer(option) for option in item.options}) < len(item.options)]


def _make_item(task: Task, sample: Sample) -> TaskItem:
    question = column_value(sample, task.question)
    answer = column_value(sample, task.answer or task.label)
    cluster = column_value(sample, task.cluster) or concept_of(sample, "en")
    options: tuple[str, ...] = ()
    answers: tuple[str, ...]
    if task.kind == "multiple_choice":
        options = _options(task, sample)
        if len(options) < 2:
            raise DataError(
                f"item {sample.id!r} of the task {task.name!r} has {len(options)} options, but a choice needs two",
                "give a list, or texts separated by | in the column of the options",
            )
        answers = (options[correct_option(answer, options, f"item {sample.id!r}")],) if answer else ()
    elif task.kind == "yes_no":
        options, answers = ("yes", "no"), tuple(filter(None, [parse_yes_no(answer)]))
    else:
        answers = parse_list(answer) if task.kind == "short_answer" else tuple(filter(None, [answer]))
    return TaskItem(sample, question, options, answers, cluster)


def _options(task: Task, sample: Sample) -> tuple[str, ...]:
    if len(task.options) == 1:
        return parse_list(column_value(sample, task.options[0]))
    return tuple(text for column in task.options if (text := column_value(sample, column)))
