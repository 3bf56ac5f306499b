"""From the rows of answers to measurements: accuracy under each view, and what the picture adds."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping

import numpy as np

from clerestory.core.codec import Tags
from clerestory.core.evidence import Finding, Measurement, Recipe
from clerestory.stages.evaluate.shared.measures import matching, scored
from clerestory.stages.evaluate.shared.row_builder import CLEAN, MIXED
from clerestory.stages.evaluate.tasks.ablations import BLIND_VIEW, MAJORITY, SHUFFLED
from clerestory.stats.aggregate import Rows, measure

CLUSTER = "concept"


def answer_measures(rows: Rows, where: Mapping[str, str]) -> list[Measurement]:
    """Everything that is measured of the answers of one task and split, for the views that have scores."""
    clean = Tags(where, condition=CLEAN)
    if not scored(rows, clean, "score"):
        return []
    found = [measure(rows, Recipe("mean", "score", clean, CLUSTER), "accuracy", where)]
    if scored(rows, clean, "all_orders"):
        recipe = Recipe("mean", "all_orders", clean, CLUSTER)
        found.append(measure(rows, recipe, "accuracy_all_orders", where))
    for view in (BLIND_VIEW, SHUFFLED, MAJORITY):
        seen = Tags(where, condition=view)
        if not scored(rows, seen, "score"):
            continue
        found.append(measure(rows, Recipe("mean", "score", seen, CLUSTER), "accuracy", seen))
        named = where if view == BLIND_VIEW else seen
        if (matching(rows, seen) & ~np.isnan(rows["score"]) & ~np.isnan(rows["clean_score"])).any():
            gain = Recipe("paired", "clean_score", seen, CLUSTER, against="score")
            found.append(measure(rows, gain, "blind_gain", named))
        if view != SHUFFLED:
            solvable = Recipe("chance_corrected", "score", seen, CLUSTER, against="chance")
            found.append(measure(rows, solvable, "blind_solvable", named))
    return found


def group_measures(
    rows: Rows, where: Mapping[str, str], groups: Mapping[str, str], least: int
) -> tuple[list[Measurement], list[Finding]]:
    """Accuracy for each value of some groups; one with fewer clusters than ``least`` is named and not measured.

    Args:
        rows: of all tasks.
        where: one task and split.
        groups: names of groups, with the column each is in.
        least: how many clusters a group needs.
    """
    chosen = matching(rows, {**where, "condition": CLEAN}) & ~np.isnan(rows["score"])
    found: list[Measurement] = []
    findings = []
    for group, column in groups.items():
        clusters: dict[str, set[str]] = defaultdict(set)
        for value, cluster in zip(rows[column][chosen].tolist(), rows[CLUSTER][chosen].tolist(), strict=True):
            clusters[value].add(cluster)
        for value in sorted(set(clusters) - {"", MIXED}):
            slice_ = {**where, group: value}
            if len(clusters[value]) < least:
                held = len(clusters[value])
                message = f"{held} concepts, fewer than the {least} a group needs, so it was not measured"
                fix = "bring in more such pictures, or lower group_least"
                findings.append(Finding("CLR-E005", "info", "not_run", str(Tags(slice_)), message, fix))
                continue
            recipe = Recipe("mean", "score", Tags({**where, column: value}, condition=CLEAN), CLUSTER)
            found.append(measure(rows, recipe, "accuracy", slice_))
    return found, findings
