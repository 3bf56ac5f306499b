"""The captions of an indexed folder, from its tables and the texts beside its images, without reading an image."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import overload

from clerestory.apps.folder_index.index import FolderIndex
from clerestory.apps.folder_index.snapshot import Snapshot
from clerestory.core.digest import digest
from clerestory.core.evidence import Finding
from clerestory.core.progress import QUIET, Progress
from clerestory.core.sample import Sample
from clerestory.core.text import valid_unicode
from clerestory.data.findings import OUTSIDE_FOLDER, UNREADABLE_FOLDER, UNREADABLE_IMAGE, UnreadableImage
from clerestory.data.image_scan import ImageScan

_LISTED_ELSEWHERE = {UNREADABLE_IMAGE.code, UNREADABLE_FOLDER.code, OUTSIDE_FOLDER.code}


@dataclass(frozen=True, slots=True)
class FolderCaptions:
    """What the tables of a folder say about its images.

    Attributes:
        samples: by the SHA-256 of the image.
        digest: of the samples; empty if there are no tables.
        findings: about the tables; unreadable images are those of the index.
    """

    samples: Mapping[str, Sample] = field(default_factory=dict)
    digest: str = ""
    findings: tuple[Finding, ...] = ()


def read_captions(index: FolderIndex, progress: Progress = QUIET) -> FolderCaptions:
    """The captions of the images of a folder, read as ``open_data`` reads them; empty if it has no tables.

    Raises:
        DataError: its tables contradict one another, or one of them cannot be read.
    """
    if not index.tables:
        return FolderCaptions()
    from clerestory.data.data_folder import DataFolder
    from clerestory.data.folder import open_folder, sort_files

    state = index.snapshot.state
    scans = {path: ImageScan(sha256) for path, sha256 in zip(state.paths, state.sha256, strict=True)}
    scans |= {path: ImageScan("", UnreadableImage.DAMAGED, problem) for path, problem in state.unreadable.items()}

    def from_index(root: Path, files: Iterable[str], progress: Progress) -> dict[str, ImageScan]:
        return {file: scans[file] for file in files if file in scans}

    folder = DataFolder(index.folder)
    data = open_folder(folder, sort_files(folder), progress, scan=from_index)
    samples: dict[str, Sample] = {}
    for sample in data.samples:
        if sample.image not in samples or (sample.captions and not samples[sample.image].captions):
            samples[sample.image] = sample
    if not any(sample.captions for sample in samples.values()):
        return FolderCaptions()
    findings = tuple(finding for finding in data.findings if finding.code not in _LISTED_ELSEWHERE)
    return FolderCaptions(samples, data.digest, findings)


class FolderSamples(Sequence[Sample]):
    """The images of a snapshot as samples, whose ids are their paths; made when they are needed.

    Args:
        snapshot: the images.
        captions: of the folder.
    """

    def __init__(self, snapshot: Snapshot, captions: FolderCaptions) -> None:
        self._paths, self._sha256 = snapshot.state.paths, snapshot.state.sha256
        self._by_image = captions.samples

    def __len__(self) -> int:
        return len(self._paths)

    @overload
    def __getitem__(self, place: int) -> Sample: ...
    @overload
    def __getitem__(self, place: slice) -> Sequence[Sample]: ...
    def __getitem__(self, place: int | slice) -> Sample | Sequence[Sample]:
        if isinstance(place, slice):
            return [self[i] for i in range(*place.indices(len(self)))]
        path, image = valid_unicode(self._paths[place]), self._sha256[place]
        known = self._by_image.get(image)
        return replace(known, id=path) if known else Sample(path, image, source=path)

    def __iter__(self) -> Iterator[Sample]:
        return (self[i] for i in range(len(self)))


def samples_digest(snapshot: Snapshot, captions: FolderCaptions) -> str:
    """The digest of the images with their captions: what calibrators that were fitted on them depend on."""
    return digest([snapshot.digest, captions.digest])
