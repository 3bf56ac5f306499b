"""The cheapest command that would change an outcome."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from clerestory.core.digest import short
from clerestory.core.evidence import Measurement
from clerestory.core.release import Rule
from clerestory.store import Store


@dataclass(frozen=True, slots=True)
class Commands:
    """What could be run for one rule and one model.

    Attributes:
        measure: makes the evidence that is missing or stale.
        finished: puts the finished model of the same training to the gate; empty when this is no early checkpoint.
        larger, smaller: train another size; empty when there is none.
        model: the model, as commands name it.
        on: what says which data, for the end of a command.
    """

    measure: str
    finished: str
    larger: str
    smaller: str
    model: str
    on: str

    def improve(self, measured: Measurement) -> str:
        """What could give a better value than the measured one; empty when nothing that is known of would."""
        if self.finished:
            return self.finished
        return self.smaller if measured.unit == "ms" else self.larger

    def examine(self, other: str) -> str:
        """Measures another release."""
        return f"clerestory evaluate {other}{self.on}"

    def compare(self, other: str) -> str:
        """Shows where the two differ, and how many samples it takes to tell."""
        return f"clerestory compare {self.model} {other}{self.on}"


def commands_for(rule: Rule, model: str, data: str, store: Store, tasks: Sequence[str] = ()) -> Commands:
    """The commands for a rule that a model did not pass.

    Args:
        rule: the rule.
        model: the model's digest.
        data: digest of the data set; its name is used where the store knows it.
        store: where data sets and trainings are.
        tasks: what names the tasks whose data this is.
    """
    names = [row.name for row in store.datasets() if row.digest == data]
    learnt = f" --data {names[0]}" if names else ""
    on = learnt + "".join(f" --task {task}" for task in tasks)
    trainings = store.find_evidence("train")
    own = next((each for each in trainings if each.subject.model == model), None)
    whole = next((each for each in trainings if model in each.facts.values() and each.subject.model != model), None)
    preset = own.facts.get("preset", "") if own else ""
    return Commands(
        measure=f"clerestory train{learnt}" if rule.evidence == "train" else f"clerestory evaluate {short(model)}{on}",
        finished=f"clerestory release gate {short(whole.subject.model)}{on}" if whole else "",
        larger="" if preset == "small" else f"clerestory train{learnt} --preset small",
        smaller="" if preset == "nano" else f"clerestory train{learnt} --preset nano",
        model=short(model),
        on=on,
    )
