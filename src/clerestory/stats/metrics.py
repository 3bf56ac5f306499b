"""Every metric the product measures: unit, direction, title and meaning, each in one place.

A name with a parameter (``recall@10``) comes from a template (``recall@{k}``). The two values and the difference of a
comparison are named ``recall@10.a``, ``recall@10.b`` and ``recall@10.difference``. Other packages add metrics through
the entry point ``"metrics.<owner>" = "their_package:METRICS"``, a tuple of ``Metric``.
"""

from __future__ import annotations

import functools
import math
import re
from dataclasses import dataclass, replace
from typing import Literal

from clerestory.core import extensions
from clerestory.core.errors import ConfigError
from clerestory.core.evidence import Direction

Topic = Literal["quality", "robustness", "uncertainty", "fairness", "efficiency", "validity", "training"]
Role = Literal["value", "a", "b", "difference"]

EXTENSION = "metrics"
CURRENCY = "currency"
_PARAMETER = re.compile(r"\{\w+\}")
_DIFFERENCES: tuple[Role, ...] = ("a", "b", "difference")


@dataclass(frozen=True, slots=True)
class Metric:
    """One metric, or a template of metrics that differ in a parameter.

    Attributes:
        name: as measurements carry it, such as ``recall@10``; with a field in braces it is a template.
        unit: ``share``, ``ms``, …; ``currency`` stands for the currency of the price file.
        direction: which way is better.
        title: plain words and the standard term; may have the template's field in it.
        meaning: one or two plain sentences.
        topic: the question it answers, when its slice does not say otherwise.
        machine_dependent: it also depends on what else the machine is doing.
        counts_answers: a share of answers, which can be written as N of 100.
        headline: belongs into a short summary; of a template, the parameters that do.
        base: name of the template, or the name itself.
        parameter: value of the template's field; None without one.
        role: of a comparison, which of its three numbers this is.
        registered: False for a name that nobody registered, so that unit and direction are unknown.
        bounds: the smallest and the largest value of a sample, where the unit does not say it: a share is 0…1, a
            change or a difference can be negative.
    """

    name: str
    unit: str
    direction: Direction
    title: str
    meaning: str
    topic: Topic = "quality"
    machine_dependent: bool = False
    counts_answers: bool = False
    headline: bool | tuple[int, ...] = False
    base: str = ""
    parameter: int | None = None
    role: Role = "value"
    registered: bool = True
    bounds: tuple[float, float] | None = None

    @property
    def value_range(self) -> tuple[float, float] | None:
        """The range of the values of which it is an average; it decides the kind of interval, whatever the values are.

        None where it has none, as times and costs.
        """
        low, high = self.bounds or ((0.0, 1.0) if self.unit == "share" else (-math.inf, math.inf))
        if self.role == "difference" and math.isfinite(high):
            return low - high, high - low
        return (low, high) if math.isfinite(high) else None

    @property
    def is_template(self) -> bool:
        """Whether the name has a field for a parameter."""
        return bool(_PARAMETER.search(self.name))

    def at(self, parameter: int) -> Metric:
        """The metric of this template for one parameter."""
        name, title, meaning = (_PARAMETER.sub(str(parameter), text) for text in (self.name, self.title, self.meaning))
        headline = parameter in self.headline if isinstance(self.headline, tuple) else self.headline
        return replace(
            self, name=name, title=title, meaning=meaning, headline=headline, base=self.name, parameter=parameter
        )


SIGNED = (-1.0, 1.0)  # of differences of shares and of scores up to 1

_QUALITY = (
    Metric(
        "recall@1",
        "share",
        "higher",
        "Correct answer ranked first (recall@1)",
        "How often the correct answer comes first.",
        counts_answers=True,
        headline=True,
        base="recall@{k}",
        parameter=1,
    ),
    Metric(
        "recall@{k}",
        "share",
        "higher",
        "Correct answer in the first {k} (recall@{k})",
        "How often the correct answer is among the first {k}.",
        counts_answers=True,
        headline=(10,),
    ),
    Metric(
        "median_rank",
        "rank",
        "lower",
        "Median rank of the correct answer",
        "Half of the queries have the correct answer at this rank or a better one; 1 is the best.",
    ),
    Metric(
        "map",
        "share",
        "higher",
        "Mean average precision (mAP)",
        "How near the top all correct answers are: 1 when they come before everything else.",
    ),
    Metric(
        "mrr",
        "score",
        "higher",
        "Mean reciprocal rank (MRR)",
        "The mean of 1 divided by the rank of the correct answer: 1 when it always comes first.",
        bounds=(0.0, 1.0),
    ),
    Metric(
        "cider_change",
        "score",
        "higher",
        "Change of the caption consensus (CIDEr-D)",
        "How much higher the caption consensus of the drafts is than that of the caption they are compared with.",
        "training",
    ),
    Metric(
        "chrf_change",
        "score",
        "higher",
        "Change of the caption similarity (chrF)",
        "Caption similarity of the drafts minus that of the caption they are compared with.",
        "training",
        bounds=SIGNED,
    ),
    Metric(
        "mrr_change",
        "score",
        "higher",
        "Change of the mean reciprocal rank (MRR)",
        "Mean reciprocal rank after the fine-tuning minus the one before it.",
        "training",
        bounds=SIGNED,
    ),
    Metric(
        "accuracy",
        "share",
        "higher",
        "Correct answers (accuracy)",
        "How often the answer is correct.",
        counts_answers=True,
        headline=True,
    ),
    Metric(
        "chrf",
        "share",
        "higher",
        "Caption similarity (chrF)",
        "Character sequences that the first suggestion shares with the reference caption: 0 for none, 1 for all.",
        headline=True,
    ),
    Metric(
        "chrf_best_of_{n}",
        "share",
        "higher",
        "Caption similarity of the best of {n} suggestions (chrF)",
        "Similarity of the suggestion closest to the reference caption: what a person who picks from the list gets.",
    ),
    Metric(
        "cider",
        "score",
        "higher",
        "Caption consensus (CIDEr-D)",
        "Word sequences shared with the reference captions, from 0 to 10; rare ones count more.",
    ),
    Metric(
        "clip_score",
        "score",
        "higher",
        "Caption and image agreement (CLIPScore)",
        "How well the caption fits the image by the model's own judgement, 0 to 2.5; compare it only with itself.",
    ),
)

_ROBUSTNESS = (
    Metric(
        "robust_accuracy",
        "share",
        "higher",
        "Accuracy on corrupted images (robust accuracy)",
        "Accuracy, the mean over every corruption and severity.",
        "robustness",
        counts_answers=True,
        headline=True,
    ),
    Metric(
        "baseline_accuracy",
        "share",
        "higher",
        "Accuracy of the colour baseline (baseline accuracy)",
        "Accuracy of a method that sees only coarse colours, on the same images.",
        "robustness",
        counts_answers=True,
    ),
    Metric(
        "mce",
        "ratio",
        "lower",
        "Mean corruption error (mCE)",
        "Errors on corrupted images relative to a baseline: 1 means as many as the baseline, 0 means no errors.",
        "robustness",
        headline=True,
    ),
    Metric(
        "relative_mce",
        "ratio",
        "lower",
        "Relative mean corruption error (relative mCE)",
        "Errors that corruption adds, as a multiple of what it adds to the baseline's errors.",
        "robustness",
        headline=True,
    ),
    Metric(
        "effective_robustness",
        "share",
        "higher",
        "Robustness beyond expectation (effective robustness)",
        "Accuracy on shifted data minus what public models of the same accuracy reach there.",
        "robustness",
        bounds=SIGNED,
        headline=True,
    ),
    Metric(
        "shift_gap",
        "share",
        "lower",
        "Accuracy lost in an unseen style (distribution-shift gap)",
        "Accuracy on the test images minus accuracy on a style that training never saw.",
        "robustness",
        bounds=SIGNED,
        headline=True,
    ),
    Metric(
        "recall@{k}_loss",
        "share",
        "lower",
        "Recall lost when the text changes (recall@{k} loss)",
        "recall@{k} of the original captions minus recall@{k} of the changed ones.",
        "robustness",
        bounds=SIGNED,
    ),
)

_UNCERTAINTY = (
    Metric(
        "ece",
        "share",
        "lower",
        "Calibration error (ECE)",
        "Mean difference between stated confidence and accuracy, over bins of equal width: 0 is perfect.",
        "uncertainty",
        headline=True,
    ),
    Metric(
        "ece_mass",
        "share",
        "lower",
        "Calibration error, equal-mass bins (ECE)",
        "The same over bins with equally many answers.",
        "uncertainty",
    ),
    Metric(
        "brier",
        "score",
        "lower",
        "Error of the probabilities (Brier score)",
        "Mean squared distance of the class probabilities from the truth: 0 is perfect.",
        "uncertainty",
    ),
    Metric(
        "nll",
        "nats",
        "lower",
        "Negative log-likelihood (NLL)",
        "Minus the logarithm of the probability of the correct class: 0 is perfect.",
        "uncertainty",
    ),
    Metric(
        "temperature",
        "ratio",
        "none",
        "Calibration temperature",
        "What the scores are divided by to calibrate them: above 1 the model was over-confident, below 1 too cautious.",
        "uncertainty",
    ),
    Metric(
        "ood_auroc",
        "share",
        "higher",
        "Unknown-class detection (AUROC)",
        "How often an image of a known class scores higher than one of an unknown class; chance is 0.5.",
        "uncertainty",
        headline=True,
    ),
    Metric(
        "ood_aupr_in",
        "share",
        "higher",
        "Detection of known classes (AUPR-In)",
        "Area under the precision-recall curve with the known classes as positives.",
        "uncertainty",
    ),
    Metric(
        "ood_aupr_out",
        "share",
        "higher",
        "Detection of unknown classes (AUPR-Out)",
        "Area under the precision-recall curve with the unknown classes as positives.",
        "uncertainty",
    ),
    Metric(
        "ood_fpr95",
        "share",
        "lower",
        "Unknown classes let through (FPR95)",
        "Share of unknown images accepted when 95 of 100 known ones are; chance is 0.95.",
        "uncertainty",
    ),
)

_FAIRNESS = (
    Metric(
        "worst_group",
        "share",
        "higher",
        "Accuracy of the worst group (worst-group accuracy)",
        "The lowest accuracy of any group.",
        "fairness",
        counts_answers=True,
        headline=True,
    ),
    Metric(
        "largest_gap",
        "share",
        "lower",
        "Largest accuracy gap between groups",
        "Accuracy of the best group minus that of the worst.",
        "fairness",
        headline=True,
    ),
    Metric(
        "equalised_odds",
        "share",
        "lower",
        "Error-rate difference between groups (equalised odds)",
        "Largest difference between groups in true-positive or false-positive rate of a class: 0 is equal.",
        "fairness",
        headline=True,
    ),
    Metric(
        "max_skew@{k}",
        "log ratio",
        "lower",
        "Over-representation in the first {k} results (MaxSkew@{k})",
        "Logarithm of how over-represented the most favoured group is among the first {k}: 0 is proportional.",
        "fairness",
    ),
    Metric(
        "ndkl",
        "nats",
        "lower",
        "Unevenness of the whole ranking (NDKL)",
        "How far the order of results departs from the groups' shares: 0 is proportional.",
        "fairness",
        headline=True,
    ),
)

_EFFICIENCY = (
    Metric(
        "latency_p50",
        "ms",
        "lower",
        "Median response time (latency p50)",
        "Half of the requests, sent one at a time, were answered within this time.",
        "efficiency",
        machine_dependent=True,
        headline=True,
        base="latency_p{q}",
        parameter=50,
    ),
    Metric(
        "latency_p{q}",
        "ms",
        "lower",
        "Response time of single requests, percentile {q} (latency p{q})",
        "{q} of 100 requests, sent one at a time, were answered within this time.",
        "efficiency",
        machine_dependent=True,
        headline=(95,),
    ),
    Metric(
        "load_p50",
        "ms",
        "lower",
        "Median response time under load (latency p50)",
        "Half of the requests were answered within this time while further requests kept arriving.",
        "efficiency",
        machine_dependent=True,
        headline=False,
        base="load_p{q}",
        parameter=50,
    ),
    Metric(
        "load_p{q}",
        "ms",
        "lower",
        "Response time under load, percentile {q} (latency p{q})",
        "{q} of 100 requests were answered within this time while further requests kept arriving.",
        "efficiency",
        machine_dependent=True,
        headline=(95,),
    ),
    Metric(
        "goodput",
        "share",
        "higher",
        "Requests answered in time (goodput)",
        "Share of all requests that were answered within the latency target.",
        "efficiency",
        machine_dependent=True,
        counts_answers=True,
    ),
    Metric(
        "throughput",
        "per second",
        "higher",
        "Answers per second (throughput)",
        "How many answers per second it gives when it is fully used.",
        "efficiency",
        machine_dependent=True,
        headline=True,
    ),
    Metric(
        "peak_memory",
        "MiB",
        "lower",
        "Peak memory",
        "The largest amount of memory the process used during the speed measurement.",
        "efficiency",
        machine_dependent=True,
        headline=True,
    ),
    Metric(
        "energy",
        "J per request",
        "lower",
        "Energy per request",
        "Energy of the whole machine, idle share included, divided by the number of requests.",
        "efficiency",
        machine_dependent=True,
        headline=True,
    ),
    Metric(
        "cost_per_1000",
        CURRENCY,
        "lower",
        "Cost of 1,000 requests",
        "At the prices of the price file.",
        "efficiency",
        machine_dependent=True,
        headline=True,
    ),
    Metric(
        "cost_per_1000_correct",
        CURRENCY,
        "lower",
        "Cost of 1,000 correct answers",
        "At the prices of the price file; a cheap model that is often wrong may be the more expensive one.",
        "efficiency",
        machine_dependent=True,
        headline=True,
    ),
)

_VALIDITY = (
    Metric(
        "not_understood",
        "share",
        "lower",
        "Replies that were not understood (parse failure rate)",
        "Share of questions whose reply gave no answer, or was cut off before it; they are in no accuracy.",
        "validity",
    ),
    Metric(
        "accuracy_all_orders",
        "share",
        "higher",
        "Accuracy over all option orders",
        "How often the answer is correct in every order of the options.",
        "validity",
        counts_answers=True,
    ),
    Metric(
        "chance_accuracy",
        "share",
        "none",
        "Accuracy of guessing (chance level)",
        "What random answers would reach.",
        "validity",
        counts_answers=True,
    ),
    Metric(
        "blind_gain",
        "share",
        "higher",
        "Accuracy gained from the image (blind gain)",
        "Accuracy with the image minus accuracy without it, on the same questions.",
        "validity",
        bounds=SIGNED,
        headline=True,
    ),
    Metric(
        "blind_solvable",
        "share",
        "lower",
        "Questions solved without the image, corrected for guessing (blind-solvable share)",
        "Share of questions answered correctly without the image, corrected for guessing.",
        "validity",
        bounds=SIGNED,
        headline=True,
    ),
    Metric(
        "contamination",
        "share",
        "lower",
        "Test images that are in the training data (contamination)",
        "Share of test images with an identical or near-identical image in the training data.",
        "validity",
    ),
    Metric(
        "contamination_gain",
        "share",
        "none",
        "Accuracy difference on contaminated images",
        "Accuracy on test images that are in the training data minus accuracy on the others.",
        "validity",
        bounds=SIGNED,
    ),
    Metric(
        "faults_caught",
        "share",
        "higher",
        "Injected faults detected (detection rate)",
        "Share of the faults injected on purpose that raised an alarm.",
        "validity",
    ),
    Metric(
        "false_alarms",
        "share",
        "lower",
        "False alarms (false-positive rate)",
        "Share of unchanged rebuilds that raised an alarm.",
        "validity",
    ),
)

_TRAINING = (
    Metric(
        "plan_time_ratio",
        "ratio",
        "none",
        "Actual divided by estimated time",
        "How long the training took relative to its estimate: 1 is a perfect estimate.",
        "training",
        machine_dependent=True,
    ),
    Metric(
        "plan_memory_ratio",
        "ratio",
        "none",
        "Actual divided by estimated memory",
        "How much memory the training used relative to its estimate: 1 is a perfect estimate.",
        "training",
        machine_dependent=True,
    ),
)

METRICS: tuple[Metric, ...] = (
    *_QUALITY,
    *_ROBUSTNESS,
    *_UNCERTAINTY,
    *_FAIRNESS,
    *_EFFICIENCY,
    *_VALIDITY,
    *_TRAINING,
)


@functools.cache
def registered() -> dict[str, Metric]:
    """The metrics of this package and of installed extensions, by name; templates under their name with the field.

    Raises:
        ConfigError: two owners register the same name.
    """
    found = {each.name: each for each in METRICS}
    for owner in extensions.names(EXTENSION):
        for each in extensions.find(EXTENSION, owner):
            if each.name in found:
                raise ConfigError(f"the metric {each.name!r} is registered twice", f"rename the one of {owner}")
            found[each.name] = each
    return found


@functools.cache
def metric(name: str) -> Metric:
    """The metric of a measurement's name, with its parameter; for an unknown name one with a title made from it."""
    found = _lookup(name)
    if found is not None:
        return found
    base, _, role = name.rpartition(".")
    compared = _lookup(base)
    for known in _DIFFERENCES:
        if compared is not None and role == known:
            return replace(compared, name=name, role=known)
    words = " ".join(re.split(r"[\s_]+", name)).strip() or name
    return Metric(name, "", "none", words[:1].upper() + words[1:], "", base=name, registered=False)


def _lookup(name: str) -> Metric | None:
    known = registered()
    if name in known and not known[name].is_template:
        exact = known[name]
        return exact if exact.base else replace(exact, base=name)
    for template, pattern in _templates():
        matched = pattern.fullmatch(name)
        if matched:
            return template.at(int(matched[1]))
    return None


@functools.cache
def _templates() -> tuple[tuple[Metric, re.Pattern[str]], ...]:
    found = []
    for each in registered().values():
        if each.is_template:
            before, after = _PARAMETER.split(each.name, maxsplit=1)
            found.append((each, re.compile(re.escape(before) + r"(\d+)" + re.escape(after))))
    return tuple(found)
