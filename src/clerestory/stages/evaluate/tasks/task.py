"""A task: the questions, the data, and the scoring of answers. Read from a short TOML file."""

from __future__ import annotations

import dataclasses
import tomllib
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Literal

from clerestory.core.codec import decode
from clerestory.core.digest import digest
from clerestory.core.errors import CapabilityError, ConfigError, closest
from clerestory.core.files import read_problem
from clerestory.core.settings import Range, check_settings
from clerestory.models.protocols import CAPABILITY_TEXT, SUITABLE_MODELS, Capability, capabilities
from clerestory.stats.robustness import published_lines

TaskKindName = Literal[
    "zero_shot", "retrieval", "linear_probe", "knn", "caption", "multiple_choice", "yes_no", "short_answer"
]
AnswerScorer = Literal["exact", "normalised", "contains", "yes_no", "choice"]

IMAGENET = "imagenet"
TASK_FILE = "task.toml"
LIST_SETTINGS = ("prompts", "metrics", "options", "classes", "groups")


@dataclass(frozen=True, slots=True)
class TaskKind:
    """The properties that all tasks of one kind share.

    Attributes:
        capabilities: a model needs any one of them; the first that it has is used.
        metrics: measured by default.
        required: settings that a task must have.
        prompts: by default.
        scorer: by default.
        placeholders: required in every prompt.
    """

    capabilities: tuple[Capability, ...]
    metrics: tuple[str, ...] = ("accuracy",)
    required: tuple[str, ...] = ()
    prompts: tuple[str, ...] = ()
    scorer: AnswerScorer = "normalised"
    placeholders: tuple[str, ...] = ()


TASK_KINDS: dict[str, TaskKind] = {
    "zero_shot": TaskKind(
        ("Embedder",),
        required=("label",),
        prompts=("a picture of {label}", "{label}"),
        placeholders=("{label}",),
    ),
    "retrieval": TaskKind(("Embedder",), ("recall@1", "recall@5", "recall@10", "median_rank")),
    "linear_probe": TaskKind(("Embedder",), required=("label",)),
    "knn": TaskKind(("Embedder",), required=("label",)),
    "caption": TaskKind(
        ("Captioner", "Generator"), ("chrf",), prompts=("Describe this picture in one short sentence.",)
    ),
    "multiple_choice": TaskKind(
        ("Scorer", "Generator"),
        required=("answer", "options"),
        prompts=("{question}\n{options}\nAnswer with the letter of the right option only.",),
        scorer="choice",
        placeholders=("{question}",),
    ),
    "yes_no": TaskKind(
        ("Scorer", "Generator"),
        required=("question", "answer"),
        prompts=("{question}\nAnswer yes or no.",),
        scorer="yes_no",
        placeholders=("{question}",),
    ),
    "short_answer": TaskKind(
        ("Generator",),
        required=("question", "answer"),
        prompts=("{question}\nAnswer in a few words.",),
        placeholders=("{question}",),
    ),
}


@dataclass(frozen=True, slots=True)
class Baseline:
    """A known result to compare with.

    Attributes:
        model: a reference, such as ``hf:org/name``.
        metric: such as ``accuracy``.
        value: of the metric.
        low, high: its 95 % interval.
    """

    model: str
    metric: str
    value: float
    low: float
    high: float

    def __post_init__(self) -> None:
        check_settings(self)


@dataclass(frozen=True, slots=True)
class Task:
    """The questions, the data, and the scoring of answers.

    Attributes:
        name: its name in measurements.
        kind: of the task.
        data: what ``open_data`` accepts; a path is relative to the task's file.
        version: raised with every change of the task, so that two numbers of one version are comparable.
        description: what it evaluates, in one phrase.
        split: the evaluated samples: ``test`` (if the data has it) when empty, or ``all``.
        prompts: with the placeholders ``{label}``, ``{question}`` and ``{options}``; ``zero_shot`` averages the
            embeddings of several, the other kinds use the first one.
        scorer: how an answer is compared with the correct one; by default that of the kind.
        metrics: to measure; by default those of the kind.
        label: the column with the class (``zero_shot``, ``linear_probe``, ``knn``).
        question, answer: the columns with the question and the correct answer.
        options: the column with the options (a list, or texts separated by ``|``), or one column for each option.
        classes: the classes to choose from; by default all labels of the data.
        cluster: the column whose values are independent of one another; by default the image's concept.
        groups: columns by whose values the accuracy is sliced.
        chance: the score of guessing; by default computed from the options.
        max_items: maximum number of evaluated items, selected by a hash of their ids; 0 for all.
        licence: SPDX expression of the questions and images; a pack needs one.
        source: their origin.
        baseline: a known result.
        benchmark: the public benchmark it is, ``imagenet`` or a shift of it (``imagenet_v2``, …): with both of them,
            effective robustness is measured.
    """

    name: str
    kind: TaskKindName
    data: str = ""
    version: int = 1
    description: str = ""
    split: str = ""
    prompts: tuple[str, ...] = ()
    scorer: AnswerScorer | Literal[""] = ""
    metrics: tuple[str, ...] = ()
    label: str = ""
    question: str = ""
    answer: str = ""
    options: tuple[str, ...] = ()
    classes: tuple[str, ...] = ()
    cluster: str = ""
    groups: tuple[str, ...] = ()
    chance: Annotated[float, Range(0, 1, exclusive_maximum=True)] | None = None
    max_items: Annotated[int, Range(0)] = 0
    licence: str = ""
    source: str = ""
    baseline: Baseline | None = None
    benchmark: str = ""

    def __post_init__(self) -> None:
        check_settings(self)
        if not self.name.strip():
            raise ConfigError("a task has no name", 'add name = "…"')
        for setting in self.kind_spec.required:
            if not getattr(self, setting):
                raise ConfigError(
                    f"the task {self.name!r} of kind {self.kind} lacks the setting {setting!r}",
                    f'add {setting} = "…", the name of its column',
                )
        unknown = [metric for metric in self.metrics if metric not in self.kind_spec.metrics]
        if unknown:
            raise ConfigError(
                f"the task {self.name!r} cannot measure {unknown[0]!r}",
                f"a task of kind {self.kind} measures {', '.join(self.kind_spec.metrics)}",
            )
        if self.benchmark:
            benchmarks = (IMAGENET, *sorted(published_lines()))
            if self.benchmark not in benchmarks:
                raise ConfigError(
                    f"the task {self.name!r} has the unknown benchmark {self.benchmark!r}",
                    f"it accepts {', '.join(benchmarks)}",
                    closest(self.benchmark, benchmarks),
                )
        self._check_prompts()

    def _check_prompts(self) -> None:
        for placeholder in self.kind_spec.placeholders:
            without = [prompt for prompt in self.prompts if placeholder not in prompt]
            # Multiple choice without a column of questions has no question to insert.
            if without and (placeholder != "{question}" or self.question):
                raise ConfigError(
                    f"the prompt {without[0]!r} of the task {self.name!r} does not contain {placeholder}",
                    f"insert {placeholder} into it",
                )

    @property
    def kind_spec(self) -> TaskKind:
        """The properties of its kind."""
        return TASK_KINDS[self.kind]

    @property
    def digest(self) -> str:
        """SHA-256 of everything its numbers depend on besides the data."""
        return digest(dataclasses.replace(self, data="", baseline=None))

    @property
    def columns(self) -> tuple[str, ...]:
        """The columns of the data that it reads."""
        names = (self.label, self.question, self.answer, *self.options, self.cluster, *self.groups)
        return tuple(dict.fromkeys(name for name in names if name))

    @property
    def prompt_templates(self) -> tuple[str, ...]:
        """Its prompts, or those of its kind."""
        return self.prompts or self.kind_spec.prompts

    @property
    def metric_names(self) -> tuple[str, ...]:
        """Its metrics, or those of its kind."""
        return self.metrics or self.kind_spec.metrics

    @property
    def answer_scorer(self) -> AnswerScorer:
        """How its answers are compared with the correct one."""
        return self.scorer or self.kind_spec.scorer


def required_capabilities(task: Task) -> tuple[Capability, ...]:
    """The capabilities, of which a model needs one."""
    return task.kind_spec.capabilities


def check_model(task: Task, model: object, known: Iterable[tuple[str, Sequence[str]]] = ()) -> Capability:
    """The capability of a model that a task uses.

    Args:
        task: the task.
        model: any model.
        known: available models with their capabilities, as ``(reference, capabilities)``, to suggest some.

    Raises:
        CapabilityError: the model has none of the required capabilities; names models that have.
    """
    required, available = required_capabilities(task), capabilities(model)
    for capability in required:
        if capability in available:
            return capability
    can = " and ".join(CAPABILITY_TEXT[name] for name in available) or "do none of these"
    needed = " or ".join(f"{CAPABILITY_TEXT[name]} ({name})" for name in required)
    suitable = [ref for ref, supported in known if set(supported) & set(required)]
    suggestion = f"use one of {', '.join(suitable[:6])}, or " if suitable else "use "
    raise CapabilityError(
        f"the task {task.name!r} needs a model that can {needed}; this one can {can}",
        suggestion + SUITABLE_MODELS[required[0]],
    )


def load_task(path: Path | str) -> Task:
    """Read a task; the path of its data becomes relative to the working directory.

    Args:
        path: a TOML file, or a folder that contains a ``task.toml``.

    Raises:
        ConfigError: no such file, not TOML, an unknown key (with the closest known ones), or a missing one.
    """
    file = Path(path).expanduser()
    if file.is_dir():
        file = file / TASK_FILE
    try:
        text = file.read_text(encoding="utf-8")
    except OSError as error:
        near = closest(file.name, [other.name for other in file.parent.glob("*.toml")]) if file.parent.is_dir() else ()
        raise ConfigError(f"the task {file} cannot be read: {read_problem(error)}", "name a TOML file", near) from error
    except UnicodeDecodeError as error:
        raise ConfigError(f"the task {file} is not UTF-8 text", "save it again as UTF-8") from error
    try:
        settings = tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        raise ConfigError(f"the task {file} is not valid TOML: {error}", "correct the file") from error
    for name in LIST_SETTINGS:
        if isinstance(settings.get(name), str):
            settings[name] = [settings[name]]
    task = decode(Task, settings, f"the task {file}")
    return dataclasses.replace(task, data=_resolve_data(task.data, file.parent))


def _resolve_data(data: str, folder: Path) -> str:
    """A path next to the task's file, relative to the working directory; names of datasets are not changed."""
    scheme, local = ("hf:", data.removeprefix("hf:")) if data.startswith("hf:") else ("", data)
    path = folder / local
    if not local or Path(local).is_absolute() or local.startswith("~"):
        return data
    return f"{scheme}{path}" if path.exists() or local.startswith(".") else data
