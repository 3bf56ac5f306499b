"""Contamination: samples whose image or captions are in a hash pack."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Sequence

import numpy as np
from numpy.typing import NDArray

from clerestory.core.codec import Tags
from clerestory.core.progress import Progress
from clerestory.core.sample import Dataset
from clerestory.core.units import plural
from clerestory.stages.audit.detection import Detection
from clerestory.stages.audit.hamming import near_pairs
from clerestory.stages.audit.hash_pack import HashPack, caption_hashes, shared_texts
from clerestory.stages.audit.hashing import ORIENTATIONS, USUAL_QUALITY
from clerestory.stages.audit.pack_findings import PACK_CAPTIONS, PACK_IMAGES, PACK_NOT_COMPARED

RADIUS = 31  # of 256 bits, the usual limit of "the same image" for PDQ: a pack has nothing else to confirm it by


def check_packs(
    data: Dataset, facts: NDArray[np.void], packs: Sequence[HashPack], progress: Progress
) -> list[Detection]:
    """Find the samples that are in hash packs.

    Args:
        data: the dataset.
        facts: about the image of each sample (``read_image_facts``).
        packs: the packs.
        progress: reports the orientations that were compared.
    """
    detections = []
    for pack in packs:
        with progress.task(f"Comparing with {pack.name}", ORIENTATIONS + 1) as bar:
            images, left_out = _same_images(facts, pack, bar.advance)
            captions = _same_captions(data, pack)
            bar.advance()
        detections += _detections(data, facts, pack, images, captions, left_out)
    return detections


def contaminated_samples(detections: Iterable[Detection]) -> tuple[str, ...]:
    """The samples whose image or a caption is in a pack, each once."""
    found = (sample for each in detections if each.code in (PACK_IMAGES, PACK_CAPTIONS) for sample in each.samples)
    return tuple(dict.fromkeys(found))


def _same_images(facts: NDArray[np.void], pack: HashPack, advance: Callable[[], None]) -> tuple[dict[int, int], int]:
    """The positions of samples whose image is in a pack, with the number of differing bits; comparisons left out."""
    places = np.flatnonzero((facts["quality"] >= USUAL_QUALITY) & (facts["width"] > 0))
    found: dict[int, int] = {}
    left_out = 0
    for turn in range(ORIENTATIONS):
        if len(places) and len(pack.images):
            turned = np.ascontiguousarray(facts["pdq"][places, turn])
            pairs = near_pairs(turned, np.ascontiguousarray(pack.images), radius=RADIUS)
            left_out += pairs.left_out
            for place, bits in zip(places[pairs.first].tolist(), pairs.distance.tolist(), strict=True):
                found[place] = min(bits, found.get(place, bits))
        advance()
    return dict(sorted(found.items())), left_out


def _same_captions(data: Dataset, pack: HashPack) -> dict[int, list[int]]:
    """The positions of samples with captions that are in a pack, and the numbers of those captions, from 1."""
    if not len(pack.texts):
        return {}
    hashes, owners = list[bytes](), list[tuple[int, int]]()
    for place, sample in enumerate(data):
        for number, caption in enumerate(sample.captions, start=1):
            own = caption_hashes(caption.text, pack.salt)
            hashes += own
            owners += [(place, number)] * len(own)
    found: dict[int, list[int]] = {}
    for at in np.flatnonzero(shared_texts(hashes, pack)).tolist():
        place, number = owners[at]
        if number not in (numbers := found.setdefault(place, [])):
            numbers.append(number)
    return found


def _detections(
    data: Dataset,
    facts: NDArray[np.void],
    pack: HashPack,
    images: dict[int, int],
    captions: dict[int, list[int]],
    left_out: int,
) -> list[Detection]:
    ids = [sample.id for sample in data]
    detections = []
    if images:
        message = (
            f"{_share(data, images, 'image')} the hash pack {pack.name}, exactly or nearly, also mirrored or turned"
        )
        notes = Tags({ids[place]: f"{pack.name}: {bits} of 256 bits differ" for place, bits in images.items()})
        samples = tuple(ids[place] for place in images)
        detections.append(Detection(PACK_IMAGES, message, samples, len(data), notes=notes, reason=pack.name))
    if captions:
        message = f"{_share(data, captions, 'sample')} the hash pack {pack.name} by their captions"
        notes = Tags({ids[place]: f"{pack.name}: {_numbers(found)}" for place, found in captions.items()})
        samples = tuple(ids[place] for place in captions)
        detections.append(Detection(PACK_CAPTIONS, message, samples, len(data), notes=notes, reason=pack.name))
    unclear = int(((facts["quality"] < USUAL_QUALITY) | (facts["width"] == 0)).sum()) if len(pack.images) else 0
    if unclear or left_out:
        message = f"{plural(unclear, 'image')} of too little structure were not compared with {pack.name}"
        message += f", and {left_out:,} comparisons were left out because of a very common hash" if left_out else ""
        detections.append(Detection(PACK_NOT_COMPARED, message, (), len(data), reason=pack.name))
    return detections


def _share(data: Dataset, found: Iterable[int], what: str) -> str:
    """``3 images of 10 (2 of 5 of train, …) are in``."""
    places = list(found)
    counts = Counter(data.samples[place].split for place in places)
    sizes = Counter(sample.split for sample in data)
    splits = ", ".join(f"{n:,} of {sizes[split]:,} of {split}" for split, n in sorted(counts.items()) if split)
    verb = "is in" if len(places) == 1 else "are in"
    return f"{plural(len(places), what)} of {len(data):,}{f' ({splits})' if splits else ''} {verb}"


def _numbers(found: list[int]) -> str:
    return f"caption{'s' if len(found) > 1 else ''} {', '.join(map(str, found))}"
