"""Fairness: the accuracy of groups, and their representation in search results.

*Accuracy*: zero-shot classification of the first split, skin-tone variants included. Groups are compared on images of
concepts that come with two or more of their values, so that they show the same things.

*Search*: a neutral query (``judge``) ranks the concept's own images; the share of each group in the first results is
compared with its share of these images (Geyik et al. 2019).
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence
from functools import partial

import numpy as np
from numpy.typing import NDArray

from clerestory.core.codec import Fact, Tags
from clerestory.core.digest import digest
from clerestory.core.evidence import Finding, Measurement, Recipe
from clerestory.core.rows import ALL_SAMPLES, CLUSTER_COLUMN, MIXED, Condition, TaskName, Unscored, chance_fact
from clerestory.core.sample import Dataset
from clerestory.stages.evaluate import findings
from clerestory.stages.evaluate.context import EvaluationContext
from clerestory.stages.evaluate.row_builder import LICENCE, RowBuilder, group_of, has_scores
from clerestory.stages.evaluate.samples import BASE_SKIN_TONES, caption_in, concept_of
from clerestory.stages.evaluate.shared.class_prompts import (
    Classes,
    add_predictions,
    class_embeddings,
    class_facts,
    find_classes,
    logit_scale,
    unscored_reasons,
)
from clerestory.stages.evaluate.shared.sliced_metrics import (
    Grouping,
    Measured,
    concepts_by_value,
    measure_by_value,
    measure_or_explain,
    too_small,
)
from clerestory.stages.evaluate.suite import MeasuredSlices, NotApplicable, Suite, SuiteResult
from clerestory.stats.aggregate import Rows, measure
from clerestory.stats.fairness import max_skew, ndkl

PEOPLE_GROUPS = ("age", "ethnicity", "gender", "race", "skin_tone")
NO_GROUP = (*BASE_SKIN_TONES, MIXED)
TOP_K = 10
MAX_SKEW, NDKL = f"max_skew@{TOP_K}", "ndkl"
MAX_VALUES = 50
RANDOM_ORDERS = 200

Floats = NDArray[np.float64]


def run(context: EvaluationContext) -> SuiteResult:
    """One row per image and group, and one per neutral query, group and metric."""
    split, minimum = context.first_split, context.config.min_group_concepts
    data = context.data if split == ALL_SAMPLES else context.data.split(split)
    classes: Classes | None = None
    facts: dict[str, Fact] = {"fairness.split": split}
    try:
        classes = find_classes(context)
        facts |= class_facts(context, classes)
    except NotApplicable:
        pass
    groups = comparable_groups(context, data, classes)
    people = [name for name in PEOPLE_GROUPS if name in {group for sample in data for group in sample.groups}]
    if not groups and not people:
        raise NotApplicable(
            "no concept comes with two values of any group, so there are no groups to compare",
            "give the samples groups, such as gender or style, and images of the same concept in several of them",
        )
    builder, embedded_ND = context.row_builder(), context.embed_images(data).astype(np.float64)
    measurements: list[Measurement] = []
    notes: list[Finding] = []
    if classes is not None:
        notes += _add_predictions(builder, context, data, split, classes, groups, embedded_ND)
    for group in people:
        _add_searches(builder, context, data, split, group, embedded_ND)
    rows = builder.columns()
    results = [_accuracies(rows, split, group, minimum) for group in groups] if classes is not None else []
    results += [_skews(rows, split, group, minimum) for group in people]
    for found, missing in results:
        measurements += found
        notes += missing
    return SuiteResult(rows, measurements, notes, facts | _chance_facts(rows, people))


def comparable_groups(context: EvaluationContext, data: Dataset, classes: Classes | None) -> dict[str, dict[str, str]]:
    """For each group the samples of concepts that come with two or more of its values, as ``{group: {sample: value}}``.

    The label field is not compared, nor is a group with more than 50 values.
    """
    language = context.config.language
    names = {name for sample in data for name in sample.groups} | {LICENCE}
    found = {}
    for group in sorted(names - {classes.field if classes else ""}):
        values: dict[str, set[str]] = defaultdict(set)
        for sample in data:
            if (value := group_of(sample, group)) not in ("", MIXED):
                values[concept_of(sample, language)].add(value)
        shared = {concept for concept, some in values.items() if len(some) > 1}
        members = {
            sample.id: value
            for sample in data
            if concept_of(sample, language) in shared and (value := group_of(sample, group)) not in ("", MIXED)
        }
        if members and len(set(members.values())) <= MAX_VALUES:
            found[group] = members
    return found


def _add_predictions(
    builder: RowBuilder,
    context: EvaluationContext,
    data: Dataset,
    split: str,
    classes: Classes,
    groups: Mapping[str, Mapping[str, str]],
    embedded_ND: Floats,
) -> list[Finding]:
    """Add the rows of accuracy; ``query`` has the value of the group, and is empty for values with few concepts."""
    minimum = context.config.min_group_concepts
    logits_NK = logit_scale(context) * np.nan_to_num(embedded_ND) @ class_embeddings(context, classes).T
    unscored = unscored_reasons(classes.of(data), embedded_ND.astype(np.float32))
    notes = []
    for group, members in groups.items():
        positions = [i for i, sample in enumerate(data) if sample.id in members]
        samples = [data.samples[i] for i in positions]
        concepts: dict[str, set[str]] = defaultdict(set)
        for i, sample in zip(positions, samples, strict=True):
            if not unscored[i]:
                concepts[members[sample.id]].add(concept_of(sample, context.config.language))
        small = {value: len(some) for value, some in concepts.items() if len(some) < minimum}
        for value, count in sorted(small.items()):
            slice_ = Tags({"group": group, "split": split, "value": value})
            notes.append(too_small(slice_, count, minimum, findings.SMALL_GROUP))
        named = [{"query": "" if members[s.id] in small else members[s.id]} for s in samples]
        cells = {"task": TaskName.GROUP_ACCURACY, "split": split, "operation": group}
        reasons = [unscored[i] for i in positions]
        add_predictions(builder, context, samples, classes, logits_NK[positions], reasons, cells, more=named)
    return notes


def _accuracies(rows: Rows, split: str, group: str, minimum: int) -> Measured:
    """Zero-shot accuracy of each value of a group, of the worst, their largest gap, and equalised odds."""
    where = {"task": TaskName.GROUP_ACCURACY, "split": split, "operation": group, "condition": Condition.CLEAN}
    slice_ = {"task": TaskName.ZERO_SHOT, "split": split, "group": group}
    if len(concepts_by_value(rows, where, "query", "score")) < 2:
        message = f"fewer than two values of {group} have {minimum} concepts, so they were not compared"
        return [], [findings.SMALL_GROUP.finding(str(Tags(slice_)), message, minimum=minimum, group=group, split=split)]

    def accuracy(value: str) -> list[Measurement]:
        recipe = Recipe("mean", "score", Tags({**where, "query": value}), CLUSTER_COLUMN)
        return [measure(rows, recipe, "accuracy", {**slice_, "value": value})]

    grouping = Grouping("value", "query", minimum, code=findings.SMALL_GROUP)
    measurements, notes = measure_by_value(rows, grouping, where, "score", accuracy, slice_)
    for name in ("worst_group", "largest_gap", "equalised_odds"):
        recipe = Recipe(name, "score", Tags(where), CLUSTER_COLUMN, float(minimum), "query")
        compute = partial(measure, rows, recipe, name, slice_)
        found, missing = measure_or_explain(compute, f"{name} of {group}", findings.SMALL_GROUP)
        measurements += found
        notes += missing
    return measurements, notes


def _add_searches(
    builder: RowBuilder, context: EvaluationContext, data: Dataset, split: str, group: str, embedded_ND: Floats
) -> None:
    """Add the rows of neutral queries, for each concept that comes with two or more values of a group of people."""
    members: dict[str, list[int]] = defaultdict(list)
    readable = np.asarray(~np.isnan(embedded_ND).any(axis=1))
    for i, sample in enumerate(data):
        if readable[i] and group_of(sample, group) not in NO_GROUP:
            members[concept_of(sample, context.config.language)].append(i)
    shared = {
        concept: positions
        for concept, positions in sorted(members.items())
        if len({group_of(data.samples[i], group) for i in positions}) > 1
    }
    if not shared:
        return
    queries = neutral_queries(context, set(shared))
    queries_CD = context.embed_texts([queries[concept] for concept in shared]).astype(np.float64)
    for query_D, (concept, positions) in zip(queries_CD, shared.items(), strict=True):
        samples = [data.samples[i] for i in positions]
        groups = [group_of(sample, group) for sample in samples]
        values = ranking_skew(embedded_ND[positions] @ query_D, groups, concept)
        for name in (MAX_SKEW, NDKL):
            value, chance = values.get(name, (np.nan, np.nan))
            builder.add(
                samples,
                **{"task": TaskName.NEUTRAL_SEARCH, "split": split, "operation": name, "target": group},
                **{"concept": concept, "query": queries[concept], "sample": samples[0].id},
                **{"unscored": "" if name in values else Unscored.TOO_FEW_IMAGES},
                **{"amount": value, "reference": chance, "relevant": float(len(samples))},
            )


def ranking_skew(scores_L: Floats, groups: Sequence[str], key: str) -> dict[str, tuple[float, float]]:
    """MaxSkew@10 and NDKL of one ranked list relative to the groups' shares of it, each with its value by chance.

    Chance is the mean over 200 random orders of the same images; random orders are uneven, most of all at the top.
    Equal scores keep the order of the samples. MaxSkew@10 needs more than ten images.
    """
    names = sorted(set(groups))
    codes = np.array([names.index(value) for value in groups], dtype=np.int64)
    shares = np.bincount(codes, minlength=len(names)) / len(codes)
    ranked = codes[np.argsort(-np.round(scores_L, 6), kind="stable")]
    rng = np.random.Generator(np.random.Philox(key=int(digest({"orders of": key})[:32], 16)))
    orders = np.stack([codes, *(rng.permutation(codes) for _ in range(RANDOM_ORDERS))])[1:]
    values = {NDKL: (float(ndkl(ranked[None], shares)[0]), float(ndkl(orders, shares).mean()))}
    if len(codes) > TOP_K:
        chance = float(max_skew(orders, shares, TOP_K).mean())
        values[MAX_SKEW] = (float(max_skew(ranked[None], shares, TOP_K)[0]), chance)
    return values


def neutral_queries(context: EvaluationContext, concepts: set[str]) -> dict[str, str]:
    """For each concept the text that names it without a group of people.

    It is the most frequent caption of its images without a value in any group of people, else the concept's own name.
    """
    language = context.config.language
    captions: dict[str, Counter[str]] = defaultdict(Counter)
    for sample in context.data:
        concept = concept_of(sample, language)
        neutral = all(group_of(sample, name) in BASE_SKIN_TONES for name in PEOPLE_GROUPS)
        if concept in concepts and neutral and (text := caption_in(sample, language)):
            captions[concept][text] += 1
    queries = {concept: concept.replace("-", " ").replace("_", " ") for concept in concepts}
    for concept, counts in captions.items():
        queries[concept] = min(counts, key=lambda text: (-counts[text], text))
    return queries


def _skews(rows: Rows, split: str, group: str, minimum: int) -> Measured:
    """Mean MaxSkew@10 and NDKL over the neutral queries of a group; with few queries a finding instead."""
    measurements: list[Measurement] = []
    notes = []
    for name in (MAX_SKEW, NDKL):
        where = {"task": TaskName.NEUTRAL_SEARCH, "split": split, "operation": name, "target": group}
        where["condition"] = Condition.CLEAN
        slice_ = {"task": TaskName.NEUTRAL_SEARCH, "group": group}
        queries = 0
        if has_scores(rows, where, "amount"):
            recipe = Recipe("mean", "amount", Tags(where), CLUSTER_COLUMN)
            one = measure(rows, recipe, name, slice_)
            queries = one.n
            measurements += [one] if queries >= minimum else []
        if queries < minimum:
            message = f"{queries} neutral queries are below the minimum of {minimum}, so {name} was not measured"
            notes.append(
                findings.SMALL_GROUP.finding(
                    str(Tags(slice_)), message, count=queries, minimum=minimum, metric=name, group=group
                )
            )
    return measurements, notes


def _chance_facts(rows: Rows, people: Sequence[str]) -> dict[str, Fact]:
    """The mean of each search metric over random orders."""
    facts: dict[str, Fact] = {}
    for group in people:
        for name in (MAX_SKEW, NDKL):
            keep = (rows["operation"] == name) & (rows["target"] == group) & ~np.isnan(rows["reference"])
            if keep.any():
                facts[chance_fact(name, group)] = round(float(rows["reference"][keep].mean()), 4)
    return facts


SUITE = Suite(
    name="fairness",
    description="accuracy and search results by group",
    capabilities=("Embedder",),
    settings=("label_field", "min_group_concepts"),
    run=run,
    measures=(
        MeasuredSlices((TaskName.ZERO_SHOT,), keys=("group",)),
        MeasuredSlices((TaskName.NEUTRAL_SEARCH,)),
    ),
)
