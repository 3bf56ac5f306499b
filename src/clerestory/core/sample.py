"""Samples and datasets: the data on which models are trained and evaluated."""

from __future__ import annotations

import hashlib
import re
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path

from clerestory.core.codec import Tags
from clerestory.core.digest import canonical, digest_bytes
from clerestory.core.errors import IntegrityError, not_found
from clerestory.core.evidence import Finding

TRAIN, VAL, TEST, TEST_STYLE = "train", "val", "test", "test_style"
SUPPLEMENT = "supplement"  # the group of samples that only supplement the training data; its value is "yes"


@dataclass(frozen=True, slots=True)
class Caption:
    """One caption of an image.

    Attributes:
        text: the caption itself.
        lang: BCP 47 language tag.
        kind: ``name`` (the image's own short caption) or ``keyword`` (a search term).
    """

    text: str
    lang: str = "en"
    kind: str = "name"


@dataclass(frozen=True, slots=True)
class Sample:
    """One image with its captions and metadata.

    Attributes:
        id: unique in its dataset and stable over rebuilds, such as ``openmoji/violin``.
        image: SHA-256 of the image's encoded bytes.
        captions: all captions; the first one is used where a single caption is needed.
        concept: what the image shows, in any drawing style; the cluster of intervals and the unit of splits.
        groups: slices to evaluate, such as ``style``, ``skin_tone``.
        licence: SPDX expression, empty when unknown.
        source: its origin, such as a pinned package or a file name.
        split: ``train``, ``val``, ``test`` or ``test_style``; empty when the dataset has no splits.
    """

    id: str
    image: str
    captions: tuple[Caption, ...] = ()
    concept: str = ""
    groups: Tags = field(default_factory=Tags)
    licence: str = ""
    source: str = ""
    split: str = ""

    @property
    def caption(self) -> str:
        """The text of the first caption, empty without captions."""
        return self.captions[0].text if self.captions else ""


def concept_of_caption(caption: str) -> str:
    """The concept of an image whose data names none: its caption without case and punctuation."""
    return re.sub(r"\W+", " ", caption.casefold()).strip()


class Dataset:
    """An ordered, fingerprinted set of samples: same content, same digest, on any machine.

    Samples are sorted by id, so the order in which a source lists them does not matter.

    Args:
        name: its name for people.
        samples: the samples; ids must be unique.
        read: returns the encoded bytes of a sample's image; ``Dataset.read`` compares them with its digest.
        findings: observations from reading the source, such as the images that were left out.
        digest: the digest, if the caller has verified the content against it; computed otherwise.
        file_of: the file that a sample's image is; None where it is part of a larger file.
    """

    def __init__(
        self,
        name: str,
        samples: Sequence[Sample],
        read: Callable[[Sample], bytes],
        findings: Sequence[Finding] = (),
        digest: str | None = None,
        file_of: Callable[[Sample], Path | None] = lambda sample: None,
    ) -> None:
        self.name = name
        self.samples = tuple(sorted(samples, key=lambda sample: sample.id))
        self._read = read
        self.file_of = file_of
        self.findings = tuple(findings)
        self._position = {sample.id: i for i, sample in enumerate(self.samples)}
        if len(self._position) != len(self.samples):
            raise ValueError("sample ids must be unique")
        if digest is not None:
            self.__dict__["digest"] = digest

    def __len__(self) -> int:
        return len(self.samples)

    def __iter__(self) -> Iterator[Sample]:
        return iter(self.samples)

    def __getitem__(self, sample_id: str) -> Sample:
        try:
            return self.samples[self._position[sample_id]]
        except KeyError:
            raise not_found("sample", sample_id, self._position) from None

    def read(self, sample: Sample) -> bytes:
        """The encoded bytes of a sample's image, which match its digest.

        Embeddings and captions are cached under the digest of an image, so bytes of another must never leave a dataset.

        Raises:
            IntegrityError: the source returns other bytes; names the sample.
        """
        content = self._read(sample)
        if digest_bytes(content) != sample.image:
            message = f"the image of {sample.id!r} in {self.name} has changed since the data was opened"
            raise IntegrityError(message, "open the data again")
        return content

    @cached_property
    def digest(self) -> str:
        """SHA-256 over the canonical JSON of every sample in the order of ids."""
        hasher = hashlib.sha256()
        for sample in self.samples:
            hasher.update(hashlib.sha256(canonical(sample)).digest())
        return hasher.hexdigest()

    def training_licences(self) -> dict[str, int]:
        """How many images of the split ``train`` (of all splits, if there are none) each licence has, most first."""
        trained = [sample for sample in self.samples if sample.split == TRAIN] or self.samples
        counted = Counter(sample.licence for sample in trained)
        return dict(sorted(counted.items(), key=lambda item: (-item[1], item[0])))

    def filter(self, predicate: Callable[[Sample], bool]) -> Dataset:
        """The samples for which ``predicate`` is true, as a dataset with a digest of its own."""
        samples = [sample for sample in self.samples if predicate(sample)]
        return Dataset(self.name, samples, self._read, self.findings, file_of=self.file_of)

    def split(self, name: str) -> Dataset:
        """The samples of one split."""
        splits = {sample.split for sample in self.samples if sample.split}
        if name not in splits:
            raise not_found("split", name, splits)
        return self.filter(lambda sample: sample.split == name)
