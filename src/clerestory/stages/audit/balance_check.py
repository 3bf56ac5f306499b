"""Groups of a dataset: how evenly their values are spread, over the images and over the splits."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Collection, Mapping, Sequence

from clerestory.core.codec import Tags
from clerestory.core.evidence import Severity
from clerestory.core.findings import FindingCode
from clerestory.core.sample import TRAIN, Dataset
from clerestory.core.units import plural
from clerestory.stages.audit.config import AuditConfig
from clerestory.stages.audit.detection import Detection
from clerestory.stages.audit.group_findings import SPLIT_GAP, UNBALANCED, WITHOUT_VALUE, SplitGap
from clerestory.stages.audit.label_classes import LabelClasses, group_names, shown_value, values_of

MAX_VALUES = 30  # of a group; one with more is not a slice that is scored
MAX_NAMED = 4  # values in a message
Gap = tuple[SplitGap, Severity | None, Collection[str]]  # its reason and severity, and the splits of its images


def check_balance(data: Dataset, classes: LabelClasses | None, config: AuditConfig) -> list[Detection]:
    """Check every group of at most 30 values, and the classes.

    Args:
        data: the dataset.
        classes: of the dataset, if it has any; their group is checked whatever the number of its values.
        config: the limits.
    """
    names = group_names(data)
    if classes is not None and classes.group not in names:
        names.append(classes.group)
    detections: list[Detection] = []
    for name in names:
        values = values_of(data, name)
        different = len({*values} - {""})
        if different > MAX_VALUES and not (classes and classes.group == name):
            continue
        detections += _without_value(data, name, values, config.min_group_coverage)
        if different >= 2:
            detections += _unbalanced(data, name, values, config)
            detections += _split_gaps(data, name, values)
    return detections


def _unbalanced(data: Dataset, name: str, values: Sequence[str], config: AuditConfig) -> list[Detection]:
    """Values that are far smaller than the largest one, or than the least number of images."""
    counts = Counter(filter(None, values))
    largest = max(counts, key=lambda value: (counts[value], value))
    limit = counts[largest] / config.max_group_ratio
    # Where an equal share would be too small as well, the data is small and not its balance at fault.
    least = config.min_group_images if sum(counts.values()) >= config.min_group_images * len(counts) else 0
    small = sorted((value for value in counts if counts[value] < max(limit, least)), key=lambda v: (counts[v], v))
    if not small:
        return []
    message = (
        f"of the group {name}, {_named(small, counts)} {'has' if len(small) == 1 else 'have'} few images beside "
        f"{_named([largest], counts)}; the limits are {least:,} images and 1/{config.max_group_ratio:g} of the largest"
    )
    return [_detection(data, UNBALANCED, name, values, small, message)]


def _without_value(data: Dataset, name: str, values: Sequence[str], min_coverage: float) -> list[Detection]:
    """Images without a value, of a group that the other images have."""
    missing = values.count("")
    if not missing or len(values) - missing < min_coverage * len(values):
        return []
    message = (
        f"{plural(missing, 'image')} of {len(values):,} ({missing / len(values):.1%}) "
        f"{'has' if missing == 1 else 'have'} no value of the group {name}"
    )
    samples = tuple(sample.id for sample, value in zip(data, values, strict=True) if not value)
    return [Detection(WITHOUT_VALUE, message, samples, len(data))]


def _split_gaps(data: Dataset, name: str, values: Sequence[str]) -> list[Detection]:
    """Values that are trained and not evaluated, or evaluated and not trained.

    A split of which no value is in the training split was made so on purpose, such as that of an unseen style.
    """
    of_split: defaultdict[str, Counter[str]] = defaultdict(Counter)
    for sample, value in zip(data, values, strict=True):
        if value:
            of_split[sample.split][value] += 1
    trained = of_split.get(TRAIN)
    splits = {split: counts for split, counts in of_split.items() if split not in ("", TRAIN)}
    if not trained or not splits:
        return []
    separate = {split for split, counts in splits.items() if not counts.keys() & trained.keys()}
    mixed = [split for split in splits if split not in separate]
    detections = []
    for split in sorted(separate):
        held_out = sorted(splits[split])
        message = f"all values of the group {name} in {split} are missing in train: {_named(held_out, splits[split])}"
        within: Gap = (SplitGap.SEPARATE, "info", {split})
        detections.append(_gap(data, name, values, held_out, message, within))
    evaluated = sum((splits[split] for split in mixed), Counter[str]())
    if untrained := sorted(evaluated.keys() - trained.keys()):
        verb = "is" if len(untrained) == 1 else "are"
        message = f"of the group {name}, {_named(untrained, evaluated)} {verb} evaluated and missing in train"
        detections.append(_gap(data, name, values, untrained, message, (SplitGap.UNTRAINED, None, set(mixed))))
    if mixed and (unevaluated := sorted(trained.keys() - evaluated.keys())):
        verb = "is" if len(unevaluated) == 1 else "are"
        message = (
            f"of the group {name}, {_named(unevaluated, trained)} {verb} in train and missing in "
            f"{' and '.join(sorted(mixed))}"
        )
        detections.append(_gap(data, name, values, unevaluated, message, (SplitGap.UNEVALUATED, None, {TRAIN})))
    return detections


def _gap(
    data: Dataset,
    name: str,
    values: Sequence[str],
    missing: Collection[str],
    message: str,
    within: Gap,
) -> Detection:
    reason, severity, splits = within
    own = [value if sample.split in splits else "" for sample, value in zip(data, values, strict=True)]
    return _detection(data, SPLIT_GAP, name, own, missing, message, reason, severity)


def _detection(
    data: Dataset,
    code: FindingCode,
    name: str,
    values: Sequence[str],
    concerned: Collection[str],
    message: str,
    reason: str = "",
    severity: Severity | None = None,
) -> Detection:
    named = set(concerned)
    notes = {
        sample.id: f"{name} {shown_value(value)}"
        for sample, value in zip(data, values, strict=True)
        if value and value in named
    }
    return Detection(code, message, tuple(notes), len(data), notes=Tags(notes), reason=reason, severity=severity)


def _named(values: Sequence[str], counts: Mapping[str, int]) -> str:
    named = ", ".join(f"{shown_value(value)} ({counts[value]:,})" for value in values[:MAX_NAMED])
    rest = len(values) - MAX_NAMED
    return f"{named} and {plural(rest, 'other')}" if rest > 0 else named
