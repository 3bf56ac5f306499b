"""Does the model treat groups alike? Accuracy by group, and who comes first when nobody is asked for.

*Accuracy*: zero-shot classification of the first split, skin-tone variants included. Groups are compared on pictures of
concepts that come in two values of the group or more, so that they show the same things.

*Search*: a neutral query (``judge``) against the concept's own pictures; whoever comes first is held against the share
each group has among them (Geyik et al. 2019).
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence
from functools import partial

import numpy as np
from numpy.typing import NDArray

from clerestory.core.codec import Tags
from clerestory.core.digest import digest
from clerestory.core.evidence import Finding, Measurement, Recipe
from clerestory.core.sample import Dataset
from clerestory.models.protocols import logit_scale_of
from clerestory.stages.evaluate.context import EvaluationContext
from clerestory.stages.evaluate.shared.class_prompts import Classes, class_embeddings, facts, find_classes, reasons
from clerestory.stages.evaluate.shared.measures import scored
from clerestory.stages.evaluate.shared.prediction_rows import add_answers
from clerestory.stages.evaluate.shared.retrieval_split import WHOLE, caption_in, concept_of
from clerestory.stages.evaluate.shared.row_builder import CLEAN, MIXED, RowBuilder, group_of
from clerestory.stages.evaluate.shared.sliced_metrics import CONCEPT, attempt, concepts_by_value
from clerestory.stages.evaluate.suite import NotApplicable, Suite, SuiteResult
from clerestory.stats.aggregate import Rows, measure
from clerestory.stats.fairness import max_skew, ndkl

BIAS, SEARCH = "bias", "bias_search"
ZERO_SHOT = "zero_shot"
PEOPLE = ("age", "ethnicity", "gender", "race", "skin_tone")
NOBODY = ("", "none", MIXED)
SCALE = 100.0
K = 10
MOST_VALUES = 50
ORDERS = 200
TOO_FEW = f"its concept has no more than {K} pictures of the group"

Floats = NDArray[np.float64]


def run(bench: EvaluationContext) -> SuiteResult:
    """One row per picture and group, and one per neutral query, group and measure."""
    split = next(iter(bench.splits))
    data = bench.data if split == WHOLE else bench.data.split(split)
    try:
        classes: Classes | None = find_classes(bench)
        told = facts(classes, bench.config.language) if classes else {}
    except NotApplicable:
        classes, told = None, {}
    groups = comparable_groups(bench, data, classes)
    people = [name for name in PEOPLE if name in {group for sample in data for group in sample.groups}]
    if not groups and not people:
        raise NotApplicable(
            "no concept comes in two values of any group, so there are no groups to compare",
            "give the samples groups, such as gender or style, and pictures of the same concept in several of them",
        )
    table, embedded = bench.table(), bench.embed(data).astype(np.float64)
    findings = []
    if classes is not None:
        findings += _answers(table, bench, data, split, classes, groups, embedded)
    for group in people:
        _searches(table, bench, data, split, group, embedded)
    rows = table.columns()
    measured: list[Measurement] = []
    for group in groups if classes is not None else ():
        found, missing = accuracies(rows, split, group, bench.config.min_group_concepts)
        measured += found
        findings += missing
    for group in people:
        found, missing = skews(rows, split, group, bench.config.min_group_concepts)
        measured += found
        findings += missing
    told |= _facts(rows, split, people)
    return SuiteResult(rows, measured, findings, told)


def comparable_groups(bench: EvaluationContext, data: Dataset, classes: Classes | None) -> dict[str, dict[str, str]]:
    """For each group the concepts that come in two of its values or more, as ``{group: {sample: value}}``.

    The label itself is no group to compare; nor is one with more than 50 values.
    """
    found = {}
    names = {name for sample in data for name in sample.groups} | {"licence"}
    for group in sorted(names - {classes.field if classes else ""}):
        values: dict[str, set[str]] = defaultdict(set)
        for sample in data:
            if (value := group_of(sample, group)) not in ("", MIXED):
                values[concept_of(sample, bench.config.language)].add(value)
        several = {concept for concept, some in values.items() if len(some) > 1}
        own = {
            sample.id: group_of(sample, group)
            for sample in data
            if concept_of(sample, bench.config.language) in several and group_of(sample, group) not in ("", MIXED)
        }
        if own and len(set(own.values())) <= MOST_VALUES:
            found[group] = own
    return found


def _answers(
    table: RowBuilder,
    bench: EvaluationContext,
    data: Dataset,
    split: str,
    classes: Classes,
    groups: Mapping[str, Mapping[str, str]],
    embedded_ND: Floats,
) -> list[Finding]:
    """The rows of accuracy; the value of the group is in ``query``, and empty for groups that are too small."""
    scale = logit_scale_of(bench.model) or SCALE
    logits_NK = scale * np.nan_to_num(embedded_ND) @ class_embeddings(bench, classes).T
    why = reasons(classes.of(data), embedded_ND.astype(np.float32))
    findings = []
    for group, own in groups.items():
        places = [i for i, sample in enumerate(data) if sample.id in own]
        samples = [data.samples[i] for i in places]
        concepts: dict[str, set[str]] = defaultdict(set)
        for i, sample in zip(places, samples, strict=True):
            if not why[i]:
                concepts[own[sample.id]].add(concept_of(sample, bench.config.language))
        small = {value: len(some) for value, some in concepts.items() if len(some) < bench.config.min_group_concepts}
        findings += [_too_small(split, group, value, n, bench.config.min_group_concepts) for value, n in sorted(small.items())]
        named = [{"query": "" if own[sample.id] in small else own[sample.id]} for sample in samples]
        cells = {"task": BIAS, "split": split, "operation": group}
        add_answers(table, bench, samples, classes, logits_NK[places], [why[i] for i in places], cells, more=named)
    return findings


def accuracies(rows: Rows, split: str, group: str, least: int) -> tuple[list[Measurement], list[Finding]]:
    """Zero-shot accuracy of each value of a group, of the worst, their largest gap, and equalised odds."""
    where = {"task": BIAS, "split": split, "operation": group, "condition": CLEAN}
    slice_ = {"task": ZERO_SHOT, "split": split, "group": group}
    counts = concepts_by_value(rows, where, "query", "score")
    if len(counts) < 2:
        message = f"fewer than two values of {group} have {least} concepts, so they were not compared"
        fix = "bring in more pictures of these groups, or lower group_least"
        return [], [Finding("CLR-E022", "info", "not_run", str(Tags(slice_)), message, fix)]
    measured, findings = [], []
    for value in counts:
        recipe = Recipe("mean", "score", Tags({**where, "query": value}), CONCEPT)
        measured.append(measure(rows, recipe, "accuracy", {**slice_, "value": value}))
    for name in ("worst_group", "largest_gap", "equalised_odds"):
        recipe = Recipe(name, "score", Tags(where), CONCEPT, float(least), "query")
        take = partial(measure, rows, recipe, name, slice_)
        found, missing = attempt(take, f"{name} of {group}", "CLR-E022")
        measured += found
        findings += missing
    return measured, findings


def _searches(
    table: RowBuilder, bench: EvaluationContext, data: Dataset, split: str, group: str, embedded_ND: Floats
) -> None:
    """The rows of neutral queries, for each concept that comes in two values of a group of people or more."""
    members: dict[str, list[int]] = defaultdict(list)
    readable = np.asarray(~np.isnan(embedded_ND).any(axis=1))
    for i, sample in enumerate(data):
        if readable[i] and group_of(sample, group) not in NOBODY:
            members[concept_of(sample, bench.config.language)].append(i)
    several = {
        concept: places
        for concept, places in sorted(members.items())
        if len({group_of(data.samples[i], group) for i in places}) > 1
    }
    if not several:
        return
    names = neutral_names(bench, set(several))
    queries_CD = bench.embed_texts([names[concept] for concept in several]).astype(np.float64)
    for query_D, (concept, places) in zip(queries_CD, several.items(), strict=True):
        samples = [data.samples[i] for i in places]
        values = skew_values(embedded_ND[places] @ query_D, [group_of(sample, group) for sample in samples], concept)
        for name in (f"max_skew@{K}", "ndkl"):
            value, chance = values.get(name, (np.nan, np.nan))
            table.add(
                samples,
                **{"task": SEARCH, "split": split, "operation": name, "target": group, "concept": concept},
                **{"query": names[concept], "unscored": "" if name in values else TOO_FEW, "sample": samples[0].id},
                **{"amount": value, "reference": chance, "relevant": float(len(samples))},
            )


def skew_values(scores_L: Floats, values: Sequence[str], key: str) -> dict[str, tuple[float, float]]:
    """MaxSkew@10 and NDKL of one ranked list against the shares of the groups in it, each with what chance gives.

    Chance is the mean over 200 random orders of the same pictures; random orders are not even, least of all at the
    top. Equal scores keep the order of the samples. A list of no more than ten has no MaxSkew@10.
    """
    names = sorted(set(values))
    codes = np.array([names.index(value) for value in values], dtype=np.int64)
    shares = np.bincount(codes, minlength=len(names)) / len(codes)
    ranked = codes[np.argsort(-np.round(scores_L, 6), kind="stable")]
    rng = np.random.Generator(np.random.Philox(key=int(digest({"orders of": key})[:32], 16)))
    orders = np.stack([codes, *(rng.permutation(codes) for _ in range(ORDERS))])[1:]
    found = {"ndkl": (float(ndkl(ranked[None], shares)[0]), float(ndkl(orders, shares).mean()))}
    if len(codes) > K:
        chance = float(max_skew(orders, shares, K).mean())
        found[f"max_skew@{K}"] = (float(max_skew(ranked[None], shares, K)[0]), chance)
    return found


def neutral_names(bench: EvaluationContext, concepts: set[str]) -> dict[str, str]:
    """What each concept is called when nobody in particular is meant.

    That is the most frequent caption of its pictures that have no value in any group of people, else the concept's own
    name.
    """
    told: dict[str, Counter[str]] = defaultdict(Counter)
    for sample in bench.data:
        concept = concept_of(sample, bench.config.language)
        nobody = all(group_of(sample, name) in ("", "none") for name in PEOPLE)
        if concept in concepts and nobody and (text := caption_in(sample, bench.config.language)):
            told[concept][text] += 1
    plain = {concept: concept.replace("-", " ").replace("_", " ") for concept in concepts}
    return {
        concept: min(told[concept], key=lambda text: (-told[concept][text], text)) if told[concept] else plain[concept]
        for concept in concepts
    }


def skews(rows: Rows, split: str, group: str, least: int) -> tuple[list[Measurement], list[Finding]]:
    """Mean MaxSkew@10 and NDKL over the neutral queries of a group; named and not measured where these are few."""
    measured, findings = [], []
    for name in (f"max_skew@{K}", "ndkl"):
        where = {"task": SEARCH, "split": split, "operation": name, "target": group, "condition": CLEAN}
        slice_ = {"task": SEARCH, "group": group}
        queries = 0
        if scored(rows, where, "amount"):
            recipe = Recipe("mean", "amount", Tags(where), CONCEPT)
            one = measure(rows, recipe, name, slice_)
            queries = one.n
            measured += [one] if queries >= least else []
        if queries < least:
            message = f"{queries} neutral queries, fewer than the {least} it takes, so {name} was not measured"
            fix = "bring in more concepts with pictures of several groups, or lower group_least"
            findings.append(Finding("CLR-E022", "info", "not_run", str(Tags(slice_)), message, fix))
    return measured, findings


def _facts(rows: Rows, split: str, people: Sequence[str]) -> dict[str, str]:
    found = {
        "bias": f"zero-shot on split {split} with skin-tone variants; a group's values are compared on the concepts "
        "that come in two of them or more",
        SEARCH: "concepts by their neutral names against their own pictures, people without a value of the group and "
        "mixed ones left out; the desired shares are those of these pictures",
    }
    for group in people:
        for name in (f"max_skew@{K}", "ndkl"):
            keep = (rows["operation"] == name) & (rows["target"] == group) & ~np.isnan(rows["reference"])
            if keep.any():
                found[f"chance.{name}.{group}"] = f"{rows['reference'][keep].mean():.4f}"
    return found


def _too_small(split: str, group: str, value: str, concepts: int, least: int) -> Finding:
    members = "concept" if concepts == 1 else "concepts"
    message = (
        f"{group} {value!r} has {concepts} comparable {members}, fewer than the {least} a group needs, "
        "so nothing is said about it"
    )
    fix = "bring in more such pictures, or lower group_least"
    where = str(Tags({"group": group, "split": split, "value": value}))
    return Finding("CLR-E022", "info", "not_run", where, message, fix)


SUITE = Suite(
    name="bias",
    about="whether it treats groups alike",
    needs=("Embedder",),
    settings=("label", "group_least"),
    run=run,
)
