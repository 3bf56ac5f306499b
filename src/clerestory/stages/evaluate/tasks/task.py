"""What a task is: a small frozen value that a TOML file of a few lines spells out."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Literal

from clerestory.core.digest import digest
from clerestory.core.errors import CapabilityError, ConfigError, closest
from clerestory.models.protocols import CAN, KINDS, Capability, capabilities
from clerestory.stats.robustness import published_lines

Kind = Literal["zero_shot", "retrieval", "linear_probe", "knn", "caption", "multiple_choice", "yes_no", "short_answer"]
Score = Literal["exact", "normalised", "contains", "yes_no", "choice"]

# A model fits that has any one of these; the first that it has is used.
NEEDS: dict[str, tuple[Capability, ...]] = {
    "zero_shot": ("Embedder",),
    "retrieval": ("Embedder",),
    "linear_probe": ("Embedder",),
    "knn": ("Embedder",),
    "caption": ("Describer", "Generator"),
    "multiple_choice": ("Scorer", "Generator"),
    "yes_no": ("Scorer", "Generator"),
    "short_answer": ("Generator",),
}
IMAGENET = "imagenet"
METRICS: dict[str, tuple[str, ...]] = {
    "zero_shot": ("accuracy",),
    "retrieval": ("recall@1", "recall@5", "recall@10", "median_rank"),
    "linear_probe": ("accuracy",),
    "knn": ("accuracy",),
    "caption": ("chrf",),
    "multiple_choice": ("accuracy",),
    "yes_no": ("accuracy",),
    "short_answer": ("accuracy",),
}
PROMPTS: dict[str, tuple[str, ...]] = {
    "zero_shot": ("a picture of {label}", "{label}"),
    "caption": ("Describe this picture in one short sentence.",),
    "multiple_choice": ("{question}\n{options}\nAnswer with the letter of the right option only.",),
    "yes_no": ("{question}\nAnswer yes or no.",),
    "short_answer": ("{question}\nAnswer in a few words.",),
}
SCORERS: dict[str, Score] = {"multiple_choice": "choice", "yes_no": "yes_no", "short_answer": "normalised"}
FIELDS: dict[str, tuple[str, ...]] = {
    "zero_shot": ("label",),
    "linear_probe": ("label",),
    "knn": ("label",),
    "multiple_choice": ("answer", "options"),
    "yes_no": ("question", "answer"),
    "short_answer": ("question", "answer"),
}
PLACES = {"{label}": ("zero_shot",), "{question}": ("multiple_choice", "yes_no", "short_answer")}


@dataclass(frozen=True, slots=True)
class Baseline:
    """A result that somebody got, for others to compare with.

    Attributes:
        model: a reference, such as ``hf:org/name``.
        metric: such as ``accuracy``.
        value: what it was.
        low, high: its 95 % interval.
    """

    model: str
    metric: str
    value: float
    low: float
    high: float


@dataclass(frozen=True, slots=True)
class Task:
    """What a model is asked, on which data, and how its answers are scored.

    Attributes:
        name: what its numbers are called.
        kind: what is asked.
        data: what ``open_data`` takes; a path is relative to the task's file.
        version: raised whenever the task changes, so that two numbers of one version may be compared.
        about: what it examines, in a few plain words.
        split: the pictures that are asked about: ``test`` (where the data has one, when empty), or ``all``.
        prompts: how it is asked, with ``{label}``, ``{question}`` and ``{options}`` in it; the embeddings of several
            are averaged (``zero_shot``), of the other kinds the first one is used.
        scorer: how an answer is compared with the right one; that of the kind when empty.
        metrics: what is measured; that of the kind when empty.
        label: the column with the class (``zero_shot``, ``linear_probe``, ``knn``).
        question, answer: the columns with the question and the right answer.
        options: the column with the options (a list, or texts separated by ``|``), or one column for each option.
        labels: the classes to choose from; those that occur when empty.
        cluster: the column whose values are independent of one another; the concept of the picture when empty.
        groups: columns by whose values the accuracy is given once more.
        chance: what guessing earns; computed from the options when empty.
        most: how many items are asked at most, chosen by a hash of their ids; 0 for all.
        licence: SPDX expression of the questions and pictures; a pack needs one.
        source: where they come from.
        baseline: a result to compare with.
        benchmark: the public benchmark it is, ``imagenet`` or a shift of it (``imagenet_v2``, …): with both of them,
            accuracy beyond what public models show is measured (effective robustness).
    """

    name: str
    kind: Kind
    data: str = ""
    version: int = 1
    about: str = ""
    split: str = ""
    prompts: tuple[str, ...] = ()
    scorer: Score | Literal[""] = ""
    metrics: tuple[str, ...] = ()
    label: str = ""
    question: str = ""
    answer: str = ""
    options: tuple[str, ...] = ()
    labels: tuple[str, ...] = ()
    cluster: str = ""
    groups: tuple[str, ...] = ()
    chance: float | None = None
    most: int = 0
    licence: str = ""
    source: str = ""
    baseline: Baseline | None = None
    benchmark: str = ""

    def __post_init__(self) -> None:
        for field in FIELDS.get(self.kind, ()):
            if not getattr(self, field):
                raise ConfigError(
                    f"the task {self.name!r} is of kind {self.kind} and does not say its {field}",
                    f'add {field} = "…", the name of the column that holds it',
                )
        if not self.name.strip():
            raise ConfigError("a task has no name", 'add name = "…"')
        if self.chance is not None and not 0 <= self.chance < 1:
            raise ConfigError(f"the task {self.name!r} has the chance level {self.chance:g}", "it lies between 0 and 1")
        unknown = [metric for metric in self.metrics if metric not in METRICS[self.kind]]
        if unknown:
            raise ConfigError(
                f"the task {self.name!r} cannot measure {unknown[0]!r}",
                f"a task of kind {self.kind} measures {', '.join(METRICS[self.kind])}",
            )
        if self.benchmark:
            known = (IMAGENET, *sorted(published_lines()))
            if self.benchmark not in known:
                raise ConfigError(
                    f"the task {self.name!r} is said to be the benchmark {self.benchmark!r}",
                    f"it takes one of {', '.join(known)}",
                    closest(self.benchmark, known),
                )
        self._check_prompts()

    def _check_prompts(self) -> None:
        for place, kinds in PLACES.items():
            lacking = [prompt for prompt in self.prompts if place not in prompt]
            if self.kind in kinds and lacking and (place != "{question}" or self.question):
                raise ConfigError(
                    f"the prompt {lacking[0]!r} of the task {self.name!r} has no {place} in it",
                    f"put {place} where the words go",
                )

    @property
    def digest(self) -> str:
        """SHA-256 of everything its numbers depend on besides the data."""
        return digest(dataclasses.replace(self, data="", baseline=None))

    @property
    def columns(self) -> tuple[str, ...]:
        """The columns of the data that it reads."""
        named = (self.label, self.question, self.answer, *self.options, self.cluster, *self.groups)
        return tuple(dict.fromkeys(name for name in named if name))

    @property
    def asked(self) -> tuple[str, ...]:
        """Its prompts, or those of its kind."""
        return self.prompts or PROMPTS.get(self.kind, ())

    @property
    def measured(self) -> tuple[str, ...]:
        """Its metrics, or those of its kind."""
        return self.metrics or METRICS[self.kind]

    @property
    def compared(self) -> str:
        """How its answers are compared with the right one."""
        return self.scorer or SCORERS.get(self.kind, "normalised")


def needs(task: Task) -> tuple[Capability, ...]:
    """The capabilities that fit a task; a model needs any one of them."""
    return NEEDS[task.kind]


def check_model(task: Task, model: object, known: Iterable[tuple[str, Sequence[str]]] = ()) -> Capability:
    """The capability of a model that a task uses.

    Args:
        task: what is to be asked.
        model: any model.
        known: models at hand with their capabilities, as ``(reference, capabilities)``, to name those that fit.

    Raises:
        CapabilityError: the model has none of what the task needs; the models that fit are named.
    """
    has = capabilities(model)
    for capability in needs(task):
        if capability in has:
            return capability
    can = " and ".join(CAN[name] for name in has) or "do nothing that is asked here"
    wanted = " or ".join(f"{CAN[name]} ({name})" for name in needs(task))
    fits = [ref for ref, able in known if set(able) & set(needs(task))]
    here = f"here fits {', '.join(fits[:6])}; or use " if fits else "use "
    raise CapabilityError(
        f"the task {task.name!r} needs a model that can {wanted}; this one can {can}", here + KINDS[needs(task)[0]]
    )
