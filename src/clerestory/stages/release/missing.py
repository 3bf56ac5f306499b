"""What a rule asks for and an evaluation did not measure, beside what it did measure."""

from __future__ import annotations

from collections.abc import Sequence

from clerestory.core.codec import Tags
from clerestory.core.errors import closest
from clerestory.core.evidence import Measurement
from clerestory.core.release import Rule
from clerestory.stats.metrics import metric

MAX_LISTED = 4  # slices or metrics that are named


def missing_measurement(rule: Rule, measurements: Sequence[Measurement]) -> tuple[str, bool]:
    """Why none of the measurements is that of a rule, and whether the suites that were not run could measure it.

    Args:
        rule: names a metric and a slice that no measurement has.
        measurements: of the current evidence.

    Returns:
        A sentence without its full stop, and whether a complete evaluation could have the measurement.
    """
    task = rule.where.get("task", "")
    is_task_measured = any(m.slice.get("task") == task for m in measurements)
    slices = list(dict.fromkeys(m.slice for m in measurements if m.name == rule.metric))
    if not slices:
        base = metric(rule.metric).base
        others = sorted({m.name for m in measurements if metric(m.name).base == base and m.slice.get("task") == task})
        if others:
            return f"{rule.metric} is not measured; give the rule {' or '.join(others[:MAX_LISTED])}", False
        where = f" for {rule.where}" if rule.where else ""
        return f"{rule.metric}{where} was not measured", True
    if not rule.where:
        return f"the rule has no where; {rule.metric} is measured for {_listed(slices, rule)}", False
    split = rule.where.get("split", "")
    splits = sorted({m.slice["split"] for m in measurements if "split" in m.slice})
    if is_task_measured and split and split not in splits:
        remedy = "add samples to it, or give a policy whose rules name a measured split (--policy)"
        return f"nothing was measured on the split {split!r} (measured: {', '.join(splits)}); {remedy}", False
    return (
        f"{rule.metric} was not measured for {rule.where}; it is measured for {_listed(slices, rule)}",
        bool(task) and not is_task_measured,
    )


def _listed(slices: Sequence[Tags], rule: Rule) -> str:
    """The slices nearest to that of a rule, as a policy writes them."""
    written = {str(each): _toml(each) for each in slices}
    near = closest(str(rule.where), written, MAX_LISTED)
    shown = list(dict.fromkeys((*near, *written)))[:MAX_LISTED]
    rest = len(written) - len(shown)
    return " or ".join(written[each] for each in shown) + (f" and {rest} more" if rest else "")


def _toml(where: Tags) -> str:
    pairs = ", ".join(f'{name} = "{value}"' for name, value in where.items())
    return f"where = {{ {pairs} }}"
