"""Three lists of duplicates in a folder: the same bytes, the same image saved anew, and images that look alike.

Nothing is deleted. Every group says which file to keep: the one with the most pixels, then the most bytes.

The same image saved anew is found without a model: nearly the same hash and mean colours propose a pair, and the two
files are then compared pixel by pixel at up to 512 pixels a side. Measured on 100 photographs of 640
pixels: no field of 4 × 4 pixels differs by more than 8.1 of 255 after resizing to a half (JPEG quality 75) or a third;
one other number on a page of 827 × 1,169 pixels makes at least 8.7 in type of 10 pixels, 16 in type of 16. The limit
leaves out some copies of low quality (JPEG quality 30: median 7.4), which are then alike, rather than lose an image.
Colours are compared in the same way: saved anew, the chroma of 63 photographs changes by at most 2.1 on average; in
black and white it changes by at least 2.5, and by 10 in the median. An image of another aspect is never the same one.
Only files compared with the one to keep, and found equal, can go.

Everything else that is close is listed as alike: nearly equal embeddings, or somewhat less equal ones whose hashes are
close too, as those of cropped images are. Of 100 photographs cropped by 3 to 15 % among 1,000, 87 are found (all of
3 %, 16 of 25 of 15 %), beside seven groups of the same kind of scene.
"""

from __future__ import annotations

import os
from collections import defaultdict
from collections.abc import Collection, Sequence
from dataclasses import dataclass, replace
from functools import lru_cache
from pathlib import Path
from typing import Literal, NamedTuple

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from clerestory.apps.folder_index.catalog import CatalogState
from clerestory.apps.folder_index.reading import read_file
from clerestory.apps.folder_index.snapshot import Snapshot
from clerestory.core.progress import QUIET, Progress
from clerestory.core.text import valid_unicode

DuplicateKind = Literal["same bytes", "same image", "look alike"]

HASH_BITS = 8  # the most that differ if an image is saved anew,
CROPPED_BITS = 14  # and if it is cropped
COLOUR_DIFFERENCE = 24.0  # mean over the grid, of 255
HASH_PARTS = HASH_BITS + 1  # of two hashes that differ in HASH_BITS, one of these parts is equal
MAX_PIXELS_SIDE = 512  # at which two files are compared,
FIELD_SIDE = 4  # in fields of this many pixels a side,
FIELD_DIFFERENCE = 8.5  # whose mean brightness differs by at most this, of 255,
CHROMA_DIFFERENCE, MEAN_CHROMA_DIFFERENCE = 20.0, 2.4  # and whose chroma by at most these, anywhere and on average
MIN_SIDE = 48  # of an image of another size; a smaller one does not show whether it is the same
REDUCING = Image.Resampling.LANCZOS
SAMPLE_PAIRS, SAMPLE_BLOCK = 20_000, 2_000
SAME_SHARE, ALIKE_SHARE = 0.85, 0.93  # of the way from the mean similarity of random pairs to 1
BLOCK_ROWS = 1024  # hashes,
BLOCK_EMBEDDINGS = 256  # and embeddings that are compared with all others at a time
MAX_NEIGHBOURS = 64  # of an image; more are not needed to group it
MAX_REDUCED = 256  # images of at most 320 KiB that are kept for further comparisons
SEED = 0


@dataclass(frozen=True, slots=True)
class DuplicateGroup:
    """Files that show the same, or nearly the same.

    Attributes:
        kind: why they are in one group.
        keep: the file to keep.
        others: the other files, in the order of their paths. Of a kind other than ``same bytes``, each content is
            there once.
        similarities: of the others' embeddings to that of ``keep``.
    """

    kind: DuplicateKind
    keep: str
    others: tuple[str, ...]
    similarities: tuple[float, ...]

    @property
    def paths(self) -> tuple[str, ...]:
        """All files of the group, the one to keep first."""
        return (self.keep, *self.others)


@dataclass(frozen=True, slots=True)
class DuplicateLists:
    """The duplicates of a folder.

    Attributes:
        same_bytes, same_image, look_alike: the groups of each kind, in the order of their first files.
        min_similarity: of images that look alike.
        contents: the SHA-256 of every file.
        linked: of the files in ``same_bytes`` and ``same_image``, those with other hard links, in this folder or
            elsewhere: removing one frees no space. (Symbolic links are not in the index.)
    """

    same_bytes: tuple[DuplicateGroup, ...]
    same_image: tuple[DuplicateGroup, ...]
    look_alike: tuple[DuplicateGroup, ...]
    min_similarity: float
    contents: dict[str, str]
    linked: frozenset[str]

    @property
    def groups(self) -> tuple[DuplicateGroup, ...]:
        """All groups, the surest first."""
        return (*self.same_bytes, *self.same_image, *self.look_alike)

    def copies(self) -> tuple[str, ...]:
        """The files that can go while every image stays: copies with the same bytes and images saved anew.

        Of every image one file is left out: the one to keep. Images that merely look alike are never in it, nor are
        files with other hard links.
        """
        kept = {group.keep for group in self.same_image}
        content_goes = {self.contents[path] for group in self.same_image for path in group.others}
        chosen = {path for group in self.same_image for path in group.others}
        for group in self.same_bytes:
            goes = self.contents[group.keep] in content_goes
            stays = next((path for path in group.paths if path in kept), group.keep)
            chosen |= {path for path in group.paths if goes or path != stays}
        return tuple(sorted(chosen - self.linked))

    def rows(self) -> list[dict[str, object]]:
        """A row for each file of each group, for tables."""
        copies = set(self.copies())
        return [
            {
                "list": group.kind,
                "group": number,
                "image": valid_unicode(path),
                "similarity": round(similarity, 4),
                "can go": path in copies,
                "link": path in self.linked,
            }
            for number, group in enumerate(self.groups, start=1)
            for path, similarity in zip(group.paths, (1.0, *group.similarities), strict=True)
        ]


def find_duplicates(
    folder: Path, snapshot: Snapshot, progress: Progress = QUIET, min_similarity: float | None = None
) -> DuplicateLists:
    """The three lists of duplicates of a folder.

    Args:
        folder: of the images; files that may be the same image are read.
        snapshot: the images.
        progress: reports the comparison of files and of embeddings.
        min_similarity: of images that look alike; by default those of ``default_similarities``.
    """
    state = snapshot.state
    by_content: defaultdict[str, list[int]] = defaultdict(list)
    for place, sha256 in enumerate(state.sha256):
        by_content[sha256].append(place)
    same_bytes = [_group("same bytes", places, snapshot) for places in by_content.values() if len(places) > 1]
    firsts = snapshot.first_places
    same, alike = default_similarities(snapshot)
    if min_similarity is not None:
        same = alike = min_similarity
    members = _same_images(folder, state, firsts, progress)
    same_image = [_group("same image", places, snapshot) for places in members.values() if len(places) > 1]
    leaders = np.array(sorted(members), dtype=np.int64)
    near = _neighbours(np.asarray(snapshot.matrix)[state.rows[leaders]], leaders, min(same, alike), progress)
    close = {
        place: [(o, score) for o, score in others if score >= alike or _may_be_cropped(state, place, o)]
        for place, others in near.items()
    }
    leader_of_alike = _lead(leaders.tolist(), close)
    alikes: defaultdict[int, list[int]] = defaultdict(list)
    for place, leader in leader_of_alike.items():
        alikes[leader].append(place)
    look_alike = [_group("look alike", places, snapshot) for places in alikes.values() if len(places) > 1]
    contents = dict(zip(state.paths, state.sha256, strict=True))
    linked = {path for group in (*same_bytes, *same_image) for path in group.paths if _has_hard_links(folder / path)}
    # Of files with the same bytes one with hard links is kept, since only the others are copies that can go.
    same_bytes = [_keep_linked(group, linked) for group in same_bytes]
    return DuplicateLists(tuple(same_bytes), tuple(same_image), tuple(look_alike), alike, contents, frozenset(linked))


def default_similarities(snapshot: Snapshot) -> tuple[float, float]:
    """The least similarity of an image and its crop, and of images that look alike, for this model and folder.

    The similarities of random pairs of different contents have a mean that depends on the model; both limits are a
    share of the way from it to 1.
    """
    rows = np.asarray(snapshot.matrix)
    used = snapshot.state.rows[snapshot.first_places]
    if len(used) < 2:
        return 1.0, 1.0
    draw = np.random.default_rng(SEED)
    first, second = draw.integers(0, len(used), (2, SAMPLE_PAIRS))
    differ = first != second
    first, second = used[first[differ]], used[second[differ]]
    blocks = [slice(start, start + SAMPLE_BLOCK) for start in range(0, len(first), SAMPLE_BLOCK)]
    mean = sum(float(np.einsum("nd,nd->", rows[first[b]], rows[second[b]])) for b in blocks) / len(first)
    same, alike = (mean + share * (1 - mean) for share in (SAME_SHARE, ALIKE_SHARE))
    return same, alike


def _same_images(
    folder: Path, state: CatalogState, places: NDArray[np.int64], progress: Progress
) -> dict[int, list[int]]:
    """The files that show the same image as one to keep, by the one to keep, which comes first and may be alone.

    Every file was compared with the one to keep itself, not with another one like it.
    """

    @lru_cache(MAX_REDUCED)
    def reduced(place: int) -> _Reduced | None:
        return _reduced(folder, state, place)

    hashes = state.phashes.view(np.uint64)
    near = _near_hashes(np.unique(hashes[places]))
    kept: defaultdict[int, list[int]] = defaultdict(list)  # by hash
    members: dict[int, list[int]] = {}
    with progress.task("Comparing files", len(places)) as bar:
        for place in sorted(places.tolist(), key=lambda p: _preference(state, p), reverse=True):
            value = int(hashes[place])
            like = [
                one for other in near.get(value, (value,)) for one in kept[other] if _may_be_same(state, one, place)
            ]
            like.sort(key=lambda one: _differing_bits(state, one, place))
            same = (one for one in like[:MAX_NEIGHBOURS] if _same_pixels(reduced(one), reduced(place)))
            keep = next(same, place)
            members.setdefault(keep, []).append(place)
            if keep == place:
                kept[value].append(place)
            bar.advance()
    return members


class _Reduced(NamedTuple):
    """An image of whole fields, in YCbCr, and their means (rows, columns, 3)."""

    image: Image.Image
    fields: NDArray[np.float32]


def _reduced(folder: Path, state: CatalogState, place: int) -> _Reduced | None:
    """The image of a file, reduced; None if it is no longer the file that was indexed."""
    path, expected = state.paths[place], state.sha256[place]
    image = read_file(folder, path, (0, 0, 0), lambda sha256: sha256 != expected).image
    if image is None:
        return None
    width, height = (max(1, min(side, MAX_PIXELS_SIDE) // FIELD_SIDE) * FIELD_SIDE for side in image.size)
    small = image.convert("RGB").convert("YCbCr").resize((width, height), REDUCING, reducing_gap=3.0)
    return _Reduced(small, _fields(small))


def _may_be_same(state: CatalogState, one: int, other: int) -> bool:
    """Whether aspect and colours are nearly the same, and both are large enough to show it, or of the same size."""
    sizes = [(int(state.widths[place]), int(state.heights[place])) for place in (one, other)]
    (width, height), (other_width, other_height) = sizes
    same_aspect = abs(width * other_height - other_width * height) <= max(*sizes[0], *sizes[1])  # to a pixel
    large = sizes[0] == sizes[1] or min(*sizes[0], *sizes[1]) >= MIN_SIDE
    return same_aspect and large and _same_colours(state, one, other)


def _same_pixels(one: _Reduced | None, other: _Reduced | None) -> bool:
    """Whether every field of two images is nearly the same, at the size of the smaller one."""
    if one is None or other is None:
        return False
    columns, rows = map(min, one.image.size, other.image.size)
    first, second = (
        each.fields if each.image.size == (columns, rows) else _fields(each.image.resize((columns, rows), REDUCING))
        for each in (one, other)
    )
    differences = np.abs(first - second)
    brightness, chroma = differences[..., 0].max(), differences[..., 1:]
    same_colours = chroma.max() <= CHROMA_DIFFERENCE and chroma.mean() <= MEAN_CHROMA_DIFFERENCE
    return bool(brightness <= FIELD_DIFFERENCE and same_colours)


def _fields(image: Image.Image) -> NDArray[np.float32]:
    """The mean of each field of an image (rows, columns, channels)."""
    columns, rows = (side // FIELD_SIDE for side in image.size)
    pixels = np.asarray(image, np.float32).reshape(rows, FIELD_SIDE, columns, FIELD_SIDE, -1)
    means: NDArray[np.float32] = pixels.mean(axis=(1, 3))
    return means


def _near_hashes(hashes: NDArray[np.uint64]) -> dict[int, list[int]]:
    """For each distinct hash that has another within ``HASH_BITS``: itself and those, ascending.

    Two hashes that differ in at most 8 bits agree in one of 9 parts, so only hashes with an equal part are compared.
    """
    near: defaultdict[int, set[int]] = defaultdict(set)
    bounds = np.linspace(0, 64, HASH_PARTS + 1).astype(int)
    for low, high in zip(bounds, bounds[1:], strict=False):
        part = (hashes >> np.uint64(low)) & np.uint64((1 << int(high - low)) - 1)
        order = np.argsort(part, kind="stable")
        ends = np.flatnonzero(np.diff(part[order])) + 1
        for bucket in np.split(hashes[order], ends):
            for start in range(0, len(bucket), BLOCK_ROWS):
                block = bucket[start : start + BLOCK_ROWS]
                differing = np.bitwise_count(block[:, None] ^ bucket[None, start + 1 :])
                for i, j in np.argwhere(differing <= HASH_BITS):
                    one, other = int(block[i]), int(bucket[start + 1 + j])
                    if one != other:
                        near[one].add(other)
                        near[other].add(one)
    return {value: sorted({value, *others}) for value, others in near.items()}


def _neighbours(
    rows: NDArray[np.float32], places: NDArray[np.int64], minimum: float, progress: Progress
) -> dict[int, list[tuple[int, float]]]:
    """Of each place the earlier places whose embeddings are similar enough, most similar first."""
    near: dict[int, list[tuple[int, float]]] = {}
    with progress.task("Comparing images", len(rows)) as bar:
        for start in range(0, len(rows), BLOCK_EMBEDDINGS):
            block = rows[start : start + BLOCK_EMBEDDINGS]
            scores = block @ rows[: start + len(block)].T
            for i in np.flatnonzero((scores >= minimum).sum(axis=1) > 1).tolist():
                earlier = scores[i, : start + i]
                chosen = np.flatnonzero(earlier >= minimum)
                chosen = chosen[np.argsort(-earlier[chosen], kind="stable")][:MAX_NEIGHBOURS]
                if len(chosen):
                    near[int(places[start + i])] = [(int(places[j]), float(earlier[j])) for j in chosen.tolist()]
            bar.advance(len(block))
    return near


def _lead(places: Sequence[int], near: dict[int, list[tuple[int, float]]]) -> dict[int, int]:
    """The most similar earlier leader of each place; places without one lead.

    So every member is similar to the first one of its group, and groups do not drift along chains of neighbours.
    """
    leader_of: dict[int, int] = {}
    for place in places:
        leaders = (other for other, _ in near.get(place, ()) if leader_of.get(other) == other)
        leader_of[place] = next(leaders, place)
    return leader_of


def _has_hard_links(path: Path) -> bool:
    try:
        return os.lstat(path).st_nlink > 1
    except OSError:  # it has gone since the folder was listed
        return False


def _keep_linked(group: DuplicateGroup, linked: Collection[str]) -> DuplicateGroup:
    """The group with a file that has hard links as the one to keep, if there is one; the embeddings are all equal."""
    keep = next((path for path in group.paths if path in linked), group.keep)
    return replace(group, keep=keep, others=tuple(sorted(set(group.paths) - {keep})))


def _differing_bits(state: CatalogState, one: int, other: int) -> int:
    return int(np.bitwise_count(state.phashes[one].view(np.uint64) ^ state.phashes[other].view(np.uint64)))


def _same_colours(state: CatalogState, one: int, other: int) -> bool:
    difference = np.abs(state.colours[one].astype(np.int16) - state.colours[other])
    return float(difference.mean()) <= COLOUR_DIFFERENCE


def _may_be_cropped(state: CatalogState, one: int, other: int) -> bool:
    return _differing_bits(state, one, other) <= CROPPED_BITS and _same_colours(state, one, other)


def _preference(state: CatalogState, place: int) -> tuple[int, int, int]:
    """The most pixels, then the most bytes, then the first path."""
    return int(state.widths[place] * state.heights[place]), int(state.sizes[place]), -place


def _group(kind: DuplicateKind, places: Sequence[int], snapshot: Snapshot) -> DuplicateGroup:
    state = snapshot.state
    keep = max(places, key=lambda p: _preference(state, p))
    others = [place for place in sorted(places) if place != keep]
    rows = np.asarray(snapshot.matrix)
    scores = rows[state.rows[others]] @ rows[state.rows[keep]]
    return DuplicateGroup(
        kind, state.paths[keep], tuple(state.paths[p] for p in others), tuple(float(score) for score in scores)
    )
