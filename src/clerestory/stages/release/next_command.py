"""The cheapest command that could change an outcome."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from shlex import quote

from clerestory.core.digest import short
from clerestory.core.evidence import Evidence
from clerestory.core.extensions import names
from clerestory.core.release import Reason, Rule
from clerestory.core.stage import StageSpec, import_object, stage, stages
from clerestory.store import Store


@dataclass(frozen=True, slots=True)
class Commands:
    """The commands for one rule and one model.

    Attributes:
        source: the stage whose evidence the rule reads.
        model: the model, as commands name it.
        dataset: the option that names the dataset; empty if the store has no name for it.
        tasks: options that name the tasks with this data.
        gate_final: runs the gate on the final model of the same training; empty unless the model is an early
            checkpoint.
        train_larger, train_smaller: train a model of another size on the same data; empty if there is no such preset,
            or the model was not trained here.
    """

    source: StageSpec
    model: str
    dataset: str
    tasks: str
    gate_final: str
    train_larger: str
    train_smaller: str

    def improve(self, reason: Reason) -> str:
        """The command that could give a better value than that of a reason; empty if none is known.

        It is also empty if only more test samples would help; the message of the reason says how many are needed.
        """
        if reason.additional_rows is not None:
            return ""
        if self.gate_final:
            return self.gate_final
        return self.train_smaller if reason.unit == "ms" else self.train_larger

    def measure(self, suites: Sequence[str] = (), model: str = "") -> str:
        """The command that produces the evidence that the rule reads, for this model or another one.

        Args:
            suites: those to run; all of them if empty.
            model: the other model.
        """
        tasks = self.tasks if "{model}" in self.source.command else ""
        options = f" --suites {','.join(suites)}" if suites else ""
        return self.source.command.format(model=model or self.model, data=self.dataset + tasks + options)

    def compare(self, reference: str) -> str:
        """The command that shows where two models differ, and how many samples a decision needs."""
        comparison = next((spec for spec in stages().values() if "{reference}" in spec.command), None)
        if comparison is None:
            return ""
        return comparison.command.format(model=self.model, reference=reference, data=self.dataset + self.tasks)


def commands_for(
    rule: Rule, model: str, data: str, store: Store, tasks: Sequence[str] = (), source: str = ""
) -> Commands:
    """The commands for a rule that a model did not pass.

    Args:
        rule: the rule.
        model: the model's digest.
        data: digest of the dataset; commands use its name if the store has one.
        store: holds the datasets and the evidence of training.
        tasks: references of the tasks with this data.
        source: the source of the dataset; used if the store has no name for it.
    """
    dataset = _data_option(store, data) or (f" --data {quote(source)}" if source else "")
    task_options = "".join(f" --task {quote(task)}" for task in tasks)
    producer = next((spec for spec in stages().values() if spec.presets), None)
    trainings = store.find_evidence(producer.kind) if producer else []
    own_training = next((each for each in trainings if each.subject.model == model), None)
    final = next((each for each in trainings if model in _checkpoints(each) and each.subject.model != model), None)
    return Commands(
        source=stage(rule.evidence),
        model=short(model),
        dataset=dataset,
        tasks=task_options,
        gate_final=f"clerestory release gate {short(final.subject.model)}{dataset}{task_options}" if final else "",
        train_larger=_train_preset(producer, own_training, store, -1),
        train_smaller=_train_preset(producer, own_training, store, 0),
    )


def suites_of(rules: Sequence[Rule], tasks: Sequence[str] = ()) -> tuple[str, ...]:
    """The fewest suites whose results would decide all of these rules; empty if all suites may be needed.

    Args:
        rules: of one kind of evidence.
        tasks: references of the tasks that are evaluated.
    """
    suites: dict[str, None] = {}
    for rule in rules:
        path = stage(rule.evidence).suites_measuring
        found = import_object(path)(rule.metric, rule.where, tasks) if path else ()
        if not found:
            return ()
        suites |= dict.fromkeys(found)
    return tuple(suites)


def _data_option(store: Store, data: str) -> str:
    """The option that names a dataset; empty if the store has no name for it."""
    return next((f" --data {quote(row.name)}" for row in store.datasets() if row.digest == data), "")


def _checkpoints(training: Evidence) -> tuple[str, str]:
    """The models that a training stored on its way, not the one that it started from."""
    return training.facts.text("early_model"), training.facts.text("late_model")


def _train_preset(producer: StageSpec | None, own_training: Evidence | None, store: Store, index: int) -> str:
    """The command that trains the largest (-1) or smallest (0) preset on the data that the model was trained on.

    It is empty if the model itself has this preset or was not trained here, and if its data have no name here.
    """
    if producer is None or own_training is None or own_training.facts.get("preset") == producer.presets[index]:
        return ""
    data = _data_option(store, own_training.subject.data)
    if not data and (name := own_training.facts.text("data")) in names("data"):
        data = f" --data {quote(name)}"
    return f"{producer.command.format(model='', data=data)} --preset {producer.presets[index]}" if data else ""
