"""Examples: queries with their nearest answers, and generated captions."""

from __future__ import annotations

from collections import defaultdict

from clerestory.core.rows import TaskName
from clerestory.report import format
from clerestory.report.model import CaptionExample, ReportData, RetrievalExample
from clerestory.report.view import CaptionGroup, CaptionView, Chapter, ExampleGroup, ExampleView, NeighbourView

LEAD = (
    "Chosen by the rank of the correct answer: the best, typical and worst queries of each kind. Examples show what "
    "the numbers mean; they prove nothing by themselves."
)
_GRADES = {"best": "Best", "typical": "Typical", "worst": "Worst"}


def chapter(data: ReportData) -> Chapter | None:
    """Examples with thumbnails; None where the evaluation stored none."""
    queries, captions = query_groups(data.examples), caption_groups(data.captions)
    if not queries and not captions:
        return None
    return Chapter(
        "examples", "Examples: what do its answers look like?", "Examples", 30,
        lead=LEAD, examples=queries, captions=captions,
    )  # fmt: skip


def query_groups(examples: tuple[RetrievalExample, ...]) -> tuple[ExampleGroup, ...]:
    """Retrieval examples by split and direction."""
    groups: dict[tuple[str, str], list[RetrievalExample]] = defaultdict(list)
    for example in examples:
        groups[example.split, example.task].append(example)
    return tuple(_group(split, task, found) for (split, task), found in groups.items())


def _group(split: str, task: str, found: list[RetrievalExample]) -> ExampleGroup:
    title = f"{format.capital(format.slice_value('task', task))}, on {format.slice_value('split', split)}"
    return ExampleGroup(title, task == TaskName.IMAGE_TO_TEXT, tuple(_view(e) for e in _interleaved(found)))


def _interleaved(found: list[RetrievalExample]) -> list[RetrievalExample]:
    """One of each grade, then the next of each, so that every row of the page shows the whole range."""
    order, turns = list(_GRADES), defaultdict[str, int](int)
    keyed = []
    for e in found:
        keyed.append((turns[e.grade], order.index(e.grade) if e.grade in order else len(order), e))
        turns[e.grade] += 1
    return [e for _, _, e in sorted(keyed, key=lambda item: item[:2])]


def _view(example: RetrievalExample) -> ExampleView:
    rank = format.digits(example.rank, "rank")
    among = f" of {format.count(example.candidates)}" if example.candidates else ""
    result = "correct answer first" if example.rank == 1 else f"correct answer at rank {rank}"
    return ExampleView(
        grade=_GRADES.get(example.grade, example.grade),
        query=example.caption,
        thumbnail=example.thumbnail,
        sample=example.sample,
        result=f"{result}{among}",
        correct=example.rank == 1,
        neighbours=tuple(
            NeighbourView(i, n.caption, n.correct, n.thumbnail) for i, n in enumerate(example.neighbours, start=1)
        ),
    )


def caption_groups(captions: tuple[CaptionExample, ...]) -> tuple[CaptionGroup, ...]:
    """Generated captions by split."""
    groups: dict[str, list[CaptionView]] = defaultdict(list)
    for each in captions:
        generated = {text.casefold().strip() for text in each.suggestions}
        correct = each.caption.casefold().strip() in generated
        groups[each.split].append(CaptionView(each.thumbnail, each.sample, each.caption, each.suggestions, correct))
    return tuple(
        CaptionGroup(f"Generated captions, on {format.slice_value('split', split)}", tuple(found))
        for split, found in groups.items()
    )
