"""Personal data in what images show: text that an OCR engine reads, and faces.

Reading an image takes a second or two, so of many images a sample is read: those with the smallest digests, which are
the same ones again when the data grows. What an image shows is kept by the digest of its bytes, so an interrupted
search continues, and no image is read twice. Neither the text nor any value in it is kept: only the kinds of
personal data, their boxes, and the share of the image that text covers.
"""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import Any

import numpy as np

from clerestory.core.codec import Tags
from clerestory.core.digest import canonical
from clerestory.core.errors import ClerestoryError
from clerestory.core.findings import FindingCode
from clerestory.core.progress import QUIET, Progress
from clerestory.core.provenance import code_digest
from clerestory.core.sample import Dataset, Sample
from clerestory.core.units import duration, plural
from clerestory.data.images import decode_image
from clerestory.stages.audit import content_findings
from clerestory.stages.audit.config import AuditConfig
from clerestory.stages.audit.detection import Detection
from clerestory.stages.audit.image_engines import (
    MAX_FACE_SIDE,
    MAX_OCR_SIDE,
    Box,
    FaceDetector,
    TextLine,
    TextReader,
)
from clerestory.stages.audit.personal_data import PersonalDataKind, find_personal_data
from clerestory.store.answer_cache import AnswerCache, answer_key

TIMED_IMAGES = 3  # after the first, with which the engine loads; their mean time is the estimate
SECONDS_PER_TRANSACTION = 2.0  # of reading that a kill may lose
GRID = 64  # cells a side in which the area of text is counted
MAX_GAP = 1.5  # heights of a line between two parts of it
MAX_BOXES = 8  # in a note
DEFAULT_LANGUAGES = ("en",)

CODE_OF: dict[PersonalDataKind, FindingCode] = {
    PersonalDataKind.EMAIL_ADDRESS: content_findings.EMAIL_IN_IMAGE,
    PersonalDataKind.PHONE_NUMBER: content_findings.PHONE_IN_IMAGE,
    PersonalDataKind.PAYMENT_CARD: content_findings.CARD_IN_IMAGE,
    PersonalDataKind.IBAN: content_findings.IBAN_IN_IMAGE,
}
_NOUNS = {kind: f"{'an' if kind.value[0] in 'eI' else 'a'} {kind.value}" for kind in PersonalDataKind}


@dataclass(frozen=True, slots=True)
class ContentCheck:
    """The result of searching images for text or faces.

    Attributes:
        detections: those of the codes, and one that says how many images were not searched.
        codes: the codes that were checked.
        searched: the ids of the samples whose image was searched.
        engine: with its version.
    """

    detections: tuple[Detection, ...]
    codes: tuple[str, ...]
    searched: frozenset[str]
    engine: str


@dataclass(frozen=True, slots=True)
class ImageText:
    """What the text in an image is, without the text.

    Attributes:
        lines: how many lines of text there are.
        covered: the share of the image that they cover.
        personal: each kind of personal data with its box.
    """

    lines: int
    covered: float
    personal: tuple[tuple[PersonalDataKind, Box], ...]


def check_text_in_images(
    data: Dataset, reader: TextReader, cache: AnswerCache, config: AuditConfig, progress: Progress = QUIET
) -> ContentCheck:
    """Read the text in images, and report personal data in it.

    Args:
        data: the dataset.
        reader: the OCR engine.
        cache: keeps the kinds and boxes, by image.
        config: how many images are read, and when an image is mostly text.
        progress: reports the estimate and the images.
    """
    languages = _languages(data)
    code = code_digest("stages/audit/image_content", "stages/audit/image_engines", "stages/audit/personal_data")

    def describe(content: bytes) -> Any:
        text = describe_text(reader.read(decode_image(content, MAX_OCR_SIDE)), languages)
        return [text.lines, text.covered, [[kind.value, list(box)] for kind, box in text.personal]]

    parts = ("text in an image", reader.name, code, *languages)
    search = _Search(data, cache, config.ocr_images, progress, "Reading text in images", reader.name)
    found = {digest: _image_text(stored) for digest, stored in search.run(describe, parts).items()}
    searched = [sample for sample in data if sample.image in found]
    detections = []
    for kind in PersonalDataKind:
        boxes = {
            sample.id: own
            for sample in searched
            if (own := [box for each, box in found[sample.image].personal if each is kind])
        }
        if boxes:
            verb = "contains" if len(boxes) == 1 else "contain"
            message = f"{plural(len(boxes), 'image')} of {len(searched):,} that were read {verb} {_NOUNS[kind]}"
            detections.append(_detection(CODE_OF[kind], message, boxes, len(searched)))
    pages = [sample.id for sample in searched if found[sample.image].covered > config.max_text_share]
    if pages:
        message = f"text covers more than {config.max_text_share:.0%} of {plural(len(pages), 'image')}"
        message += f" of {len(searched):,} that were read"
        notes = {s.id: f"text covers {found[s.image].covered:.0%}" for s in searched if s.id in set(pages)}
        detections.append(
            Detection(content_findings.MOSTLY_TEXT, message, tuple(pages), len(searched), notes=Tags(notes))
        )
    detections += _not_searched(data, searched, "text", "ocr_images", config.ocr_images)
    codes = tuple(code.code for code in content_findings.TEXT_CODES)
    return ContentCheck(tuple(detections), codes, frozenset(s.id for s in searched), reader.name)


def check_faces(
    data: Dataset, detector: FaceDetector, cache: AnswerCache, config: AuditConfig, progress: Progress = QUIET
) -> ContentCheck:
    """Find the images with a face; whose face it is is not asked.

    Args:
        data: the dataset.
        detector: finds faces.
        cache: keeps the boxes, by image.
        config: how many images are searched.
        progress: reports the estimate and the images.
    """

    def describe(content: bytes) -> Any:
        return [list(box) for box in detector.detect(decode_image(content, MAX_FACE_SIDE))]

    parts = ("faces in an image", detector.name, code_digest("stages/audit/image_engines"))
    search = _Search(data, cache, config.face_images, progress, "Searching for faces", detector.name)
    found = search.run(describe, parts)
    searched = [sample for sample in data if sample.image in found]
    boxes = {sample.id: [_box(box) for box in found[sample.image]] for sample in searched if found[sample.image]}
    detections = []
    if boxes:
        faces = sum(map(len, boxes.values()))
        verb = "shows" if len(boxes) == 1 else "show"
        message = (
            f"{plural(len(boxes), 'image')} of {len(searched):,} that were searched {verb} {plural(faces, 'face')}"
        )
        detections.append(_detection(content_findings.FACE, message, boxes, len(searched)))
    detections += _not_searched(data, searched, "faces", "face_images", config.face_images)
    return ContentCheck(
        tuple(detections), (content_findings.FACE.code,), frozenset(s.id for s in searched), detector.name
    )


def describe_text(lines: Sequence[TextLine], languages: Sequence[str] = DEFAULT_LANGUAGES) -> ImageText:
    """What the text of an image is: how much of the image it covers, and the personal data in it.

    Parts of a line that stand close together are read as one, because an engine may divide a number at its spaces.

    Args:
        lines: as they were read.
        languages: BCP 47 tags; of their countries national phone numbers are looked for.
    """
    personal: dict[tuple[PersonalDataKind, Box], None] = {}
    for row in _rows(lines):
        text, spans = "", []
        for line in row:
            text += " " if text else ""
            spans.append((len(text), len(text) + len(line.text), line.box))
            text += line.text
        for lang in languages:
            for item in find_personal_data(text, lang):
                around = [box for start, end, box in spans if start < item.end and item.start < end]
                personal[item.kind, _around(around)] = None
    covered = np.zeros((GRID, GRID), dtype=bool)
    for line in lines:
        left, top, right, bottom = line.box
        covered[round(top * GRID) : round(bottom * GRID), round(left * GRID) : round(right * GRID)] = True
    return ImageText(len(lines), float(covered.mean()), tuple(sorted(personal, key=lambda item: item[1])))


def _rows(lines: Sequence[TextLine]) -> list[list[TextLine]]:
    """The lines with their parts together: beside each other, at half a height or more in common, and close."""
    rows: list[list[TextLine]] = []
    for line in sorted(lines, key=lambda each: each.box[0]):
        left, top, _, bottom = line.box
        for row in rows:
            _, other_top, end, other_bottom = row[-1].box
            common = min(bottom, other_bottom) - max(top, other_top)
            height = min(bottom - top, other_bottom - other_top)
            # Widths and heights are fractions of different sides; for most images that makes little difference here.
            if common >= height / 2 and -height <= left - end <= MAX_GAP * max(bottom - top, other_bottom - other_top):
                row.append(line)
                break
        else:
            rows.append([line])
    return rows


def _around(boxes: Sequence[Box]) -> Box:
    lefts, tops, rights, bottoms = zip(*boxes, strict=True)
    return min(lefts), min(tops), max(rights), max(bottoms)


def _languages(data: Dataset) -> tuple[str, ...]:
    """The languages of the captions, in order; those of the text in the images are not known."""
    return tuple(sorted({c.lang for sample in data for c in sample.captions if c.lang})) or DEFAULT_LANGUAGES


def _image_text(stored: Any) -> ImageText:
    lines, covered, personal = stored
    return ImageText(lines, covered, tuple((PersonalDataKind(kind), _box(box)) for kind, box in personal))


def _box(stored: Sequence[float]) -> Box:
    left, top, right, bottom = stored
    return left, top, right, bottom


def describe_boxes(boxes: Sequence[Box]) -> str:
    """Where something is in an image, from its left upper corner, in fractions of its sides."""
    shown = [f"x {b[0]:.2f} to {b[2]:.2f}, y {b[1]:.2f} to {b[3]:.2f}" for b in boxes[:MAX_BOXES]]
    more = len(boxes) - MAX_BOXES
    return "; ".join([*shown, f"and {more:,} more"] if more > 0 else shown)


def _detection(code: FindingCode, message: str, boxes: Mapping[str, Sequence[Box]], checked: int) -> Detection:
    notes = {sample: f"at {describe_boxes(own)}" for sample, own in boxes.items()}
    return Detection(code, message, tuple(boxes), checked, notes=Tags(notes))


def _not_searched(data: Dataset, searched: Sequence[Sample], what: str, setting: str, limit: int) -> list[Detection]:
    rest = len(data) - len(searched)
    if not rest:
        return []
    message = f"{len(searched):,} of {plural(len(data), 'image')} were searched for {what} ({setting} = {limit:,})"
    fix = f"search all of them with --set {setting}={len(data)}"
    return [Detection(content_findings.NOT_SEARCHED, message, (), len(data), reason=what, fix=fix)]


@dataclass(frozen=True, slots=True)
class _Search:
    """Images that are searched one by one, each once."""

    data: Dataset
    cache: AnswerCache
    limit: int
    progress: Progress
    label: str
    engine: str

    def run(self, describe: Callable[[bytes], Any], parts: Sequence[str]) -> dict[str, Any]:
        """What ``describe`` returns, as JSON, for the images of the sample, by digest; not for unreadable ones."""
        images: dict[str, Sample] = {}
        for sample in self.data:
            images.setdefault(sample.image, sample)
        keys = {answer_key(*parts, digest): digest for digest in sorted(images)[: self.limit]}
        known = self.cache.get(list(keys))
        missing = [(key, images[digest]) for key, digest in keys.items() if key not in known]
        if missing:
            known |= self._read(missing, describe)
        return {digest: json.loads(known[key]) for key, digest in keys.items() if key in known}

    def _read(self, missing: Sequence[tuple[bytes, Sample]], describe: Callable[[bytes], Any]) -> dict[bytes, bytes]:
        made: dict[bytes, bytes] = {}
        waiting: dict[bytes, bytes] = {}
        begin = since = time.monotonic()
        count = 0
        with self.progress.task(self.label, len(missing)) as bar:
            try:
                for key, sample in missing:
                    with suppress(ClerestoryError, OSError):  # it has gone, or changed, since the data was opened
                        waiting[key] = canonical(describe(self.data.read(sample)))
                    count += 1
                    now = time.monotonic()
                    if count == 1:
                        begin = now
                    if count == TIMED_IMAGES + 1 < len(missing):
                        rest = duration((now - begin) / TIMED_IMAGES * (len(missing) - count))
                        self.progress.write_line(
                            f"{self.label}: {plural(len(missing), 'image')} with {self.engine}, about {rest}"
                        )
                    if now - since > SECONDS_PER_TRANSACTION:
                        self.cache.put(waiting)
                        made |= waiting
                        waiting, since = {}, now
                    bar.advance()
            finally:  # also when it is interrupted
                self.cache.put(waiting)
        return made | waiting
