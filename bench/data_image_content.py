"""How much personal data in images is found: ``make bench-data-image-content COCO=folder``.

Text: images with drawn phone numbers, e-mail addresses, cards and IBANs, in sizes from 10 to 40 pixels, and texts that
only look like some. Faces: ``COCO`` is a folder with ``annotations/person_keypoints_val2017.json`` and ``val2017``; a
person whose nose and both eyes are annotated as visible looks roughly at the camera.
Needs the extras ``ocr`` and ``faces``.
"""

from __future__ import annotations

import json
import os
import sys
import time
from collections import Counter
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from random import Random
from typing import Any

sys.path.insert(0, str(Path(__file__).parents[1]))
from tests.support.drawn_text import draw_text

from clerestory.data import decode_image
from clerestory.stages.audit.calibration.texts import decoy_phrase, personal_phrase
from clerestory.stages.audit.image_content import describe_text
from clerestory.stages.audit.image_engines import MAX_FACE_SIDE, MAX_OCR_SIDE, HaarFaceDetector, RapidOcrReader
from clerestory.stages.audit.personal_data import PersonalDataKind, find_personal_data
from clerestory.stats.intervals import wilson
from table import Row, measure

HEIGHTS = (10, 14, 20, 40)  # pixels of the font
FROM_HEIGHT = 14  # from which the bar holds
COLOURS = (("white", "black"), ("#204060", "#f0f0e0"), ("#c0c0c0", "#404040"))
ROUNDS = 6  # images of each size; each has one line of each kind
MAX_PHOTOGRAPHS = 158
MIN_EYES = 0.02  # distance of the eyes over the shorter side of a photograph
NORMAL_95 = 1.96
NOSE, LEFT_EYE, RIGHT_EYE = 0, 1, 2


@cache
def reader() -> RapidOcrReader:
    """The OCR engine."""
    return RapidOcrReader()


def text() -> Iterator[Row]:
    """Recall by size of the font, on images that were drawn; and false alarms."""
    rng, seconds = Random(0), list[float]()
    for height in HEIGHTS:
        found: Counter[PersonalDataKind] = Counter()
        alarms = 0
        for k in range(ROUNDS):
            planted = {kind: _phrase(kind, rng) for kind in PersonalDataKind}
            start = time.perf_counter()
            lines = reader().read(draw_text([*planted.values()], height, COLOURS[k % len(COLOURS)]))
            seconds.append(time.perf_counter() - start)
            found.update({kind for kind, _ in describe_text(lines).personal})
            decoys = draw_text([decoy_phrase(rng) for _ in range(4)], height)
            alarms += len(describe_text(reader().read(decoys)).personal)
        total = ROUNDS * len(PersonalDataKind)
        note = ", ".join(f"{kind}: {found[kind]} of {ROUNDS}" for kind in PersonalDataKind)
        recall = found.total() / total
        bar, holds = ("≥ 0.9", recall >= 0.9) if height >= FROM_HEIGHT else ("reported", True)
        yield Row(f"text of {height} pixels: recall", recall, "share", bar, holds, total, "", note)
        yield Row(f"text of {height} pixels: false alarms", alarms, "lines", "0", not alarms, ROUNDS * 4)
    mean = sum(seconds) / len(seconds)
    yield Row("reading a drawn image", mean, "s", "≤ 2 s", mean <= 2, len(seconds), "", f"{max(seconds):.2f} s at most")


def _phrase(kind: PersonalDataKind, rng: Random) -> str:
    """A phrase in which the value is found as text, so that only the reading is measured."""
    while True:
        phrase = personal_phrase(kind, "en", rng)
        if [item.kind for item in find_personal_data(phrase, "en")] == [kind]:
            return phrase


def photographs() -> Iterator[Row]:
    """Personal data in the text of photographs, which should be rare, and the time of reading."""
    files = sorted((_coco() / "val2017").glob("*.jpg"))[:20]
    personal, start = 0, time.perf_counter()
    for file in files:
        image = decode_image(file.read_bytes(), MAX_OCR_SIDE)
        personal += len(describe_text(reader().read(image)).personal)
    each = (time.perf_counter() - start) / len(files)
    yield Row("reading a photograph", each, "s", "≤ 2 s", each <= 2, len(files))
    yield Row("photographs: personal data in their text", personal, "values", "reported", True, len(files))


def faces() -> Iterator[Row]:
    """Faces in photographs: those that look at the camera, other people, and photographs without people."""
    detector, seconds = HaarFaceDetector(), list[float]()
    found: Counter[str] = Counter()
    total: Counter[str] = Counter()
    for file, kind in _annotated():
        image = decode_image(file.read_bytes(), MAX_FACE_SIDE)
        start = time.perf_counter()
        found[kind] += bool(detector.detect(image))
        seconds.append(time.perf_counter() - start)
        total[kind] += 1
    for kind in sorted(total):
        share = found[kind] / total[kind]
        around = wilson(share, total[kind], NORMAL_95, 0.95)
        yield Row(
            f"photographs with {kind}: a face is reported",
            share,
            "share",
            "reported",
            True,
            total[kind],
            "",
            f"{found[kind]} of {total[kind]}; 95 % interval {around.low:.2f} to {around.high:.2f}",
        )
    each = sum(seconds) / len(seconds)
    yield Row("searching a photograph for faces", each, "s", "≤ 1 s", each <= 1, len(seconds))


def _coco() -> Path:
    folder = Path(os.environ.get("COCO", ""))
    if not (folder / "annotations" / "person_keypoints_val2017.json").is_file():
        sys.exit("set COCO to a folder with annotations/person_keypoints_val2017.json and val2017")
    return folder


def _annotated() -> Iterator[tuple[Path, str]]:
    """Photographs, and who is in them by the annotations."""
    stored = json.loads((_coco() / "annotations" / "person_keypoints_val2017.json").read_bytes())
    people: dict[int, list[dict[str, Any]]] = {}
    for each in stored["annotations"]:
        people.setdefault(each["image_id"], []).append(each)
    number = 0
    for image in sorted(stored["images"], key=lambda each: str(each["file_name"])):
        file = _coco() / "val2017" / image["file_name"]
        if file.is_file() and number < MAX_PHOTOGRAPHS:
            number += 1
            shorter = min(image["width"], image["height"])
            own = people.get(image["id"], [])
            frontal = any(_looks_at_camera(each["keypoints"], shorter) for each in own)
            yield file, "a frontal face" if frontal else "people otherwise" if own else "no people"


def _looks_at_camera(keypoints: list[int], shorter: int) -> bool:
    points = [keypoints[3 * k : 3 * k + 3] for k in (NOSE, LEFT_EYE, RIGHT_EYE)]
    if any(point[2] != 2 for point in points):
        return False
    (nose, _, _), (left, _, _), (right, _, _) = points
    return min(left, right) < nose < max(left, right) and abs(left - right) >= MIN_EYES * shorter


if __name__ == "__main__":
    sections = {"text": text, "photographs": photographs, "faces": faces}
    sys.exit(measure("data_image_content", sections, sys.argv[1:]))
