"""Which split each sample of a leaking group gets, so that no evaluation split has a copy of a training image.

The rule keeps the evaluation splits clean and never puts a test image's copy out of the training split:

- A copy of a training image in ``val`` or ``test`` moves to ``train``. Models that were trained on the parent have
  seen it, so it would go on inflating their scores if the training copy moved to ``test`` instead; and the images that
  stay in the evaluation splits are exactly those of the scores "without the leaked images".
- In ``test_style`` it is dropped: moved, it would show the held-out style to the training.
- Its concept moves with it, if all images of that concept were in one split; otherwise half a concept would be trained
  on and the other half tested.
- A copy of a moved image moves, too, and so on until nothing leaks.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Collection, Iterable, Sequence

from clerestory.core.sample import TEST_STYLE, TRAIN, Dataset


def close_leaks(
    data: Dataset, groups: Iterable[Sequence[str]], leaking: Collection[str], gone: Collection[str]
) -> tuple[dict[str, str], dict[str, str]]:
    """The samples that move to the training split, and those that are dropped, each with the id of the reason.

    Args:
        data: the dataset.
        groups: ids of samples that are copies of one image, of every kind.
        leaking: ids of the samples of evaluation splits to act on, if they have a copy in the training split.
        gone: ids of samples that are dropped for other reasons.

    Returns:
        Two mappings from the id of a sample to the id of the sample that it is a copy of, or shares its concept with.
    """
    split = {sample.id: sample.split for sample in data if sample.id not in gone}
    copies: defaultdict[str, list[str]] = defaultdict(list)
    for group in groups:
        present = [id for id in group if id in split]
        for id in present:
            copies[id] += present
    concepts = _whole_concepts(data, split)
    moved: dict[str, str] = {}
    dropped: dict[str, str] = {}
    waiting: list[tuple[str, str]] = []
    for id in leaking:
        trained = next((copy for copy in copies[id] if split[copy] == TRAIN), None) if id in split else None
        if trained is not None:
            waiting.append((id, trained))
    while waiting:
        id, reason = waiting.pop()
        if split[id] in ("", TRAIN) or id in moved or id in dropped:
            continue
        if split[id] == TEST_STYLE:
            dropped[id] = reason
            continue
        moved[id] = reason
        waiting += [(copy, id) for copy in copies[id] if copy != id]
        waiting += [(other, id) for other in concepts.get(data[id].concept, ()) if other != id]
    return moved, dropped


def _whole_concepts(data: Dataset, split: dict[str, str]) -> dict[str, list[str]]:
    """The samples of each concept that is in one split only; ``test_style`` has the same concepts by intention."""
    members: defaultdict[str, list[str]] = defaultdict(list)
    for sample in data:
        if sample.id in split and sample.concept and sample.split != TEST_STYLE:
            members[sample.concept].append(sample.id)
    return {concept: ids for concept, ids in members.items() if len({split[id] for id in ids}) == 1}
