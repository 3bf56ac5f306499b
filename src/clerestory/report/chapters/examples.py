"""Examples: questions with their nearest answers, and captions the model wrote."""

from __future__ import annotations

from collections import defaultdict

from clerestory.report import format
from clerestory.report.model import Example, Written
from clerestory.report.view import ExampleGroup, ExampleView, NeighbourView, WrittenGroup, WrittenView

_GRADES = {"best": 0, "typical": 1, "worst": 2}


def asked(examples: tuple[Example, ...]) -> tuple[ExampleGroup, ...]:
    """The questions, by split and direction."""
    groups: dict[tuple[str, str], list[Example]] = defaultdict(list)
    for example in examples:
        groups[example.split, example.task].append(example)
    return tuple(_example_group(split, task, found) for (split, task), found in groups.items())


def _example_group(split: str, task: str, found: list[Example]) -> ExampleGroup:
    title = f"{format.slice_value('task', task).capitalize()}, on {format.slice_value('split', split)}"
    return ExampleGroup(title, task == "image_to_text", tuple(_example(e) for e in _in_turn(found)))


def _in_turn(found: list[Example]) -> list[Example]:
    """One of each grade, then the next of each, so that every row of the page shows the whole range."""
    turns: dict[str, int] = defaultdict(int)
    keyed = []
    for e in found:
        keyed.append((turns[e.grade], _GRADES.get(e.grade, len(_GRADES)), e))
        turns[e.grade] += 1
    return [e for _, _, e in sorted(keyed, key=lambda item: item[:2])]


def _example(example: Example) -> ExampleView:
    place = format.digits(example.rank, "rank")
    among = f" of {format.count(example.candidates)}" if example.candidates else ""
    result = "right answer first" if example.rank == 1 else f"right answer at place {place}"
    return ExampleView(
        grade=example.grade,
        question=example.caption,
        picture=example.picture,
        sample=example.sample,
        result=f"{result}{among}",
        right=example.rank == 1,
        neighbours=tuple(
            NeighbourView(i, n.caption, n.right, n.picture) for i, n in enumerate(example.neighbours, start=1)
        ),
    )


def captioned(written: tuple[Written, ...]) -> tuple[WrittenGroup, ...]:
    """The captions it wrote, by split."""
    groups: dict[str, list[WrittenView]] = defaultdict(list)
    for w in written:
        said = {s.casefold().strip() for s in w.suggestions}
        right = w.caption.casefold().strip() in said
        groups[w.split].append(WrittenView(w.picture, w.sample, w.caption, w.suggestions, right))
    return tuple(
        WrittenGroup(f"Captions it wrote, on {format.slice_value('split', split)}", tuple(found))
        for split, found in groups.items()
    )
