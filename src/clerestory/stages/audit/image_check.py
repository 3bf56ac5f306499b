"""What is odd about single images: size, contents, file."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import PurePosixPath

import numpy as np
from numpy.typing import NDArray

from clerestory.core.codec import Tags
from clerestory.core.findings import FindingCode
from clerestory.core.sample import Dataset
from clerestory.core.units import plural
from clerestory.stages.audit import image_findings as codes
from clerestory.stages.audit.config import AuditConfig
from clerestory.stages.audit.detection import Detection
from clerestory.stages.audit.image_facts import FORMATS, ImageFlag

FORMAT_NAMES = tuple(FORMATS)
_EXTENSIONS = {
    ".jpg": "JPEG",
    ".jpeg": "JPEG",
    ".jpe": "JPEG",
    ".jfif": "JPEG",
    ".png": "PNG",
    ".apng": "PNG",
    ".webp": "WEBP",
}
# Of other kinds of files; of any other ending, as of an id without a file, nothing is known.
_OTHER_EXTENSIONS = (".gif", ".bmp", ".tif", ".tiff", ".heic", ".avif", ".svg", ".txt", ".pdf")


def check_images(
    data: Dataset, facts: NDArray[np.void], unreadable: Sequence[str], config: AuditConfig
) -> list[Detection]:
    """Check every image on its own.

    Args:
        data: the dataset.
        facts: about the image of each sample (``read_image_facts``).
        unreadable: ids of samples whose image could not be read.
        config: the limits.
    """
    read = facts["width"] > 0
    short = np.minimum(facts["width"], facts["height"])
    long = np.maximum(facts["width"], facts["height"])
    blank = read & (facts["contrast"] < config.min_contrast)
    shown = read & ~blank  # a blank image is neither blurred nor dark as well
    detections = [
        _sized(
            data, codes.TINY, read & (short < config.min_side), facts, f"a side of less than {config.min_side} pixels"
        ),
        _sized(
            data, codes.VERY_LARGE, long > config.max_side, facts, f"a side of more than {config.max_side:,} pixels"
        ),
        _sized(
            data,
            codes.ODD_ASPECT,
            read & (long > config.max_aspect * np.maximum(short, 1)),
            facts,
            f"one side more than {config.max_aspect:g} times the other",
        ),
        _numbered(data, codes.BLANK, blank, facts["contrast"], "one colour only", "contrast"),
        _numbered(
            data,
            codes.BLURRED,
            shown & (facts["sharpness"] < config.min_sharpness),
            facts["sharpness"],
            "blurred",
            "sharpness",
        ),
        _numbered(
            data, codes.DARK, shown & (facts["brightness"] < config.max_dark), facts["brightness"], "dark", "brightness"
        ),
        _wrong_extensions(data, facts, read),
    ]
    flagged = (
        (codes.ANIMATED, ImageFlag.ANIMATED, "more than one frame"),
        (codes.CMYK, ImageFlag.CMYK, "colours for print (CMYK)"),
        (codes.TRANSPARENT, ImageFlag.TRANSPARENT, "transparent parts, which are shown on white"),
        (codes.GPS, ImageFlag.GPS, "coordinates in the metadata"),
        (codes.EXIF, ImageFlag.EXIF, "metadata of a camera or an editor (EXIF)"),
    )
    for code, flag, what in flagged:
        detections.append(_detection(data, code, (facts["flags"] & int(flag)) > 0, f"with {what}"))
    if unreadable:
        message = (
            f"{plural(len(unreadable), 'image')} could be read when the data was opened, and can no longer be read"
        )
        detections.append(Detection(codes.UNREADABLE_NOW, message, tuple(unreadable), len(data)))
    return [detection for detection in detections if detection.samples]


def _detection(
    data: Dataset, code: FindingCode, affected: NDArray[np.bool_], what: str, note: Callable[[int], str] | None = None
) -> Detection:
    places = np.flatnonzero(affected).tolist()
    samples = tuple(data.samples[place].id for place in places)
    notes = Tags({data.samples[place].id: note(place) for place in places} if note else {})
    message = f"{plural(len(places), 'image')} of {len(data):,} {what}"
    return Detection(code, message, samples, len(data), notes=notes)


def _sized(
    data: Dataset, code: FindingCode, affected: NDArray[np.bool_], facts: NDArray[np.void], what: str
) -> Detection:
    return _detection(
        data, code, affected, f"with {what}", lambda place: f"{facts['width'][place]} × {facts['height'][place]} pixels"
    )


def _numbered(
    data: Dataset, code: FindingCode, affected: NDArray[np.bool_], values: NDArray[np.float32], what: str, name: str
) -> Detection:
    verb = "is" if int(affected.sum()) == 1 else "are"
    return _detection(data, code, affected, f"{verb} {what}", lambda place: f"{name} {values[place]:.3g}")


def _wrong_extensions(data: Dataset, facts: NDArray[np.void], read: NDArray[np.bool_]) -> Detection:
    wrong = np.zeros(len(facts), dtype=bool)
    for place, sample in enumerate(data):
        extension = PurePosixPath(sample.id).suffix.lower()
        known = _EXTENSIONS.get(extension)
        wrong[place] = extension in _OTHER_EXTENSIONS or (
            known is not None and known != FORMAT_NAMES[facts["format"][place]]
        )
    return _detection(
        data,
        codes.WRONG_EXTENSION,
        wrong & read,
        "in another format than the file name says",
        lambda place: FORMAT_NAMES[facts["format"][place]],
    )
