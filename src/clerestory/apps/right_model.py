"""The right included model for some images: ``photos`` for photographs, the starter for drawings.

Only where the user names no model. A sample of the images is looked at once; afterwards the answer is in the cache, and
nothing heavy is imported.
"""

from __future__ import annotations

import json
import os
import stat
import sys
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from functools import cache, partial
from hashlib import blake2b
from importlib.resources import files as package_files
from pathlib import Path
from statistics import median
from typing import TYPE_CHECKING

from clerestory.apps.starter import DEFAULT_NAME, live_or_starter
from clerestory.core.digest import canonical, digest_file, digest_folder
from clerestory.core.errors import ClerestoryError, DataError, InputError, IntegrityError, NotFound, NotWritable
from clerestory.core.provenance import code_digest
from clerestory.core.sample import Dataset
from clerestory.core.units import plural
from clerestory.data import open_data
from clerestory.data.data_folder import IGNORED_FOLDER, is_image_name
from clerestory.data.images import decode_image, decode_sample
from clerestory.models.starter import PHOTOS, STARTER, starter_folder
from clerestory.store import Store
from clerestory.store.answer_cache import answer_key

if TYPE_CHECKING:
    from PIL import Image

    from clerestory.models.photo.encoder import PhotoEncoder
    from clerestory.models.photo.kinds import KindGuess

MAX_CHECKED = 64  # images of a folder or a dataset that are looked at
FEW_CHECKED = 8  # after "data add"
# A photograph has 1,000 to 4,000 colours at this size, an icon at most some hundred.
COLOURS_SIDE, MIN_COLOURS = 64, 500
BATCH_SIZE = 16
MAX_SIDE = 1024  # pixels of a decoded image
KINDS_FILE = "kinds.safetensors"
MAX_FILE_BYTES = 64 * 2**20
MIXED_SHARE = 0.1  # of another kind, from which on a sentence names it
UNSURE_SHARE = 0.5  # of unsure guesses, from which on the choice is called unsure
PHOTOGRAPH, DRAWING, OTHER, UNSURE = "photograph", "drawing", "other", "unsure"
PLURALS = {
    PHOTOGRAPH: "photographs",
    DRAWING: "drawings",
    OTHER: "screenshots, charts or documents",
    UNSURE: "images of uncertain kind",
}
ONE_OTHER = "this image looks like a screenshot, a chart or a document"
NEITHER = (
    "which neither of the included models knows, so the answers are guesses; name another model, such as "
    "--model hf:google/siglip2-base-patch16-224"
)


@dataclass(frozen=True, slots=True)
class ImageKinds:
    """How many of the images that were looked at are of each kind.

    Attributes:
        confident: the number of confident guesses by kind.
        unconfident: the number of unsure ones by kind.
    """

    confident: Mapping[str, int]
    unsure: Mapping[str, int]

    @classmethod
    def of(cls, guesses: Iterable[tuple[str, bool]]) -> ImageKinds:
        """From the kind of each image, and whether the guess is confident."""
        counted = Counter(guesses)
        confident = {kind: n for (kind, is_confident), n in sorted(counted.items()) if is_confident}
        return cls(confident, {kind: n for (kind, is_confident), n in sorted(counted.items()) if not is_confident})

    @property
    def num_checked(self) -> int:
        """The number of images that were looked at."""
        return sum(self.confident.values()) + sum(self.unsure.values())

    @property
    def main(self) -> str:
        """The commonest kind; empty if no image was looked at."""
        total = Counter(self.confident) + Counter(self.unsure)
        return total.most_common(1)[0][0] if total else ""

    @property
    def is_unsure(self) -> bool:
        """Whether most guesses are unsure."""
        return sum(self.unsure.values()) > UNSURE_SHARE * self.num_checked

    def num_unlike(self, kind: str) -> int:
        """The number of images that are, with confidence, of another kind than a given one."""
        return sum(n for other, n in self.confident.items() if other != kind)

    def others(self) -> dict[str, int]:
        """The numbers of images that are, with confidence, of another kind than the main one."""
        return {kind: n for kind, n in self.confident.items() if kind != self.main}


@dataclass(frozen=True, slots=True)
class ModelChoice:
    """The chosen model.

    Attributes:
        ref: its reference.
        notice: which model was chosen and why, in one sentence; empty where nothing was chosen.
        warning: why no included model fits, with the remedy; empty if one does.
    """

    ref: str
    notice: str = ""
    warning: str = ""


def choose_model(store: Store, kinds: ImageKinds | None, images: str = "images") -> ModelChoice:
    """The model for images where the user has named none.

    A live release of the default name is used instead of the starter; for photographs too, unless it was trained on
    drawings, as the starter was.

    Args:
        store: the releases.
        kinds: of the images; None if they are not known.
        images: the word for images, in the plural.
    """
    ref, notice = live_or_starter(store, f"{DEFAULT_NAME}@live")
    if kinds is None or not kinds.main:
        return ModelChoice(ref, notice)
    is_release = ref != STARTER
    if kinds.main == DRAWING:
        if is_release:
            return ModelChoice(ref, _other_kinds(kinds, "the model", images))
        return ModelChoice(STARTER, f"{_subject(kinds, images)}, so the included model {STARTER} is used{_rest(kinds)}")
    if is_release and not default_is_for_drawings(store):
        return ModelChoice(ref)
    if kinds.main == OTHER:
        looks = ONE_OTHER if kinds.num_checked == 1 else f"these {images} look like {PLURALS[OTHER]}"
        return ModelChoice(PHOTOS, "", f"{looks}, {NEITHER}")
    instead = f" instead of {ref}, which was trained on drawings" if is_release else ""
    return ModelChoice(
        PHOTOS, f"{_subject(kinds, images)}, so the included model {PHOTOS} is used{instead}{_rest(kinds)}"
    )


def _subject(kinds: ImageKinds, images: str) -> str:
    """``these are photographs``, or how many of the images are."""
    name = PLURALS[kinds.main]
    if kinds.is_unsure:
        return f"these {images} are probably {name}, but this is unsure"
    if kinds.num_checked == 1:
        return f"this is a {kinds.main}"
    if not _is_mixed(kinds):
        return f"these are {name}"
    number = kinds.confident.get(kinds.main, 0)
    return (
        f"{number} of {plural(kinds.num_checked, images.removesuffix('s'), images)} checked {_are(number, kinds.main)}"
    )


def _rest(kinds: ImageKinds) -> str:
    """Which images the chosen model does not know."""
    if kinds.is_unsure:
        return "; name another one with --model if this is wrong"
    if not _is_mixed(kinds):
        return ""
    other = PHOTOS if kinds.main == DRAWING else STARTER
    remedy = f", which --model {other} knows better" if set(kinds.others()) == {_other_kind(kinds.main)} else ""
    counts = [f"{n} {_are(n, kind)}{remedy}" for kind, n in kinds.others().items()]
    unsure = [plural(n, "is unsure", "are unsure")] if (n := sum(kinds.unsure.values())) else []
    return f"; {' and '.join(unsure + counts)}"


def _other_kinds(kinds: ImageKinds, model: str, images: str) -> str:
    """The notice about photographs among drawings, for a model that the user trained."""
    number = kinds.confident.get(PHOTOGRAPH, 0)
    if number <= MIXED_SHARE * kinds.num_checked:
        return ""
    checked = f"{number} of {kinds.num_checked} {images} checked"
    return f"{checked} {_are(number, PHOTOGRAPH)}, which --model {PHOTOS} knows better"


def _are(number: int, kind: str) -> str:
    """The predicate of a number of images: ``are photographs``, ``is a photograph``."""
    one = "a screenshot, a chart or a document" if kind == OTHER else f"a {kind}"
    return f"is {one}" if number == 1 else f"are {PLURALS[kind]}"


def _other_kind(kind: str) -> str:
    return DRAWING if kind == PHOTOGRAPH else PHOTOGRAPH


def _is_mixed(kinds: ImageKinds) -> bool:
    return sum(kinds.others().values()) > MIXED_SHARE * kinds.num_checked


def default_is_for_drawings(store: Store) -> bool:
    """Whether the model used where none is named knows drawings only: the starter, or a release trained on drawings."""
    return is_for_drawings(store, live_or_starter(store, f"{DEFAULT_NAME}@live")[0])


def is_for_drawings(store: Store, ref: str) -> bool:
    """Whether a model is the starter or a release that was trained on drawings, as far as this store knows."""
    if ref == STARTER:
        return True
    try:
        return _was_trained_on_drawings(store, ref)
    except (NotFound, IntegrityError, NotWritable):  # no release is live, or it is another model
        return False


def _was_trained_on_drawings(store: Store, ref: str) -> bool:
    model = store.resolve(ref).digest
    if model == digest_folder(starter_folder())[0]:
        return True
    trained_on = {evidence.subject.data for kind in ("train", "tune") for evidence in store.find_evidence(kind, model)}
    for row in store.datasets():
        if row.digest in trained_on:
            with suppress(ClerestoryError):
                kinds = dataset_kinds(store, row.digest, partial(open_data, row.spec))
                return kinds is not None and kinds.main == DRAWING
    return False


def kinds_of(images: Sequence[Image.Image]) -> list[KindGuess]:
    """The kind of each image.

    Raises:
        NotFound, IntegrityError: the weights of ``photos`` are not on this machine, or are others.
    """
    if not images:
        return []
    from clerestory.models.photo.kinds import kind_probe

    return kind_probe().guess(included_photos().features(images).features)


@cache
def included_photos() -> PhotoEncoder:
    """The included model for photographs, opened once.

    Raises:
        NotFound, IntegrityError: its weights are not on this machine, or are others.
    """
    from clerestory.models.photo.encoder import open_photo_encoder
    from clerestory.models.photo.folder import photos_folder

    return open_photo_encoder(photos_folder())


def data_kinds(store: Store, folder: Path | None, dataset: Dataset | None) -> ImageKinds | None:
    """The kinds of the images of a folder or of a dataset, one of the two; None where they cannot be known."""
    if folder is not None:
        return folder_kinds(store, folder)
    assert dataset is not None  # it is one of the two
    return dataset_kinds(store, dataset.digest, lambda: dataset)


def dataset_kinds(
    store: Store, digest: str, open_dataset: Callable[[], Dataset], max_checked: int = MAX_CHECKED
) -> ImageKinds | None:
    """The kinds of a dataset's images, from a sample at equal distances; cached by the digest of the dataset.

    Args:
        store: the cache.
        digest: of the dataset.
        open_dataset: opens it; called if the answer is not in the cache.
        max_checked: images of the sample.

    Returns:
        None where they cannot be known, because ``photos`` cannot be opened on this machine.
    """
    key = f"image-kinds/{digest}/{_code()}" + (f"/{max_checked}" if max_checked != MAX_CHECKED else "")
    if (cached := store.cache_read(key)) is not None:
        return ImageKinds(**json.loads(cached))
    data = open_dataset()
    images = list(_sampled_images(data, max_checked))
    with suppress(NotFound, IntegrityError, NotWritable):
        result = ImageKinds.of((str(guess.kind), guess.is_confident) for guess in kinds_of(images))
        store.cache_content(key, canonical({"confident": result.confident, "unsure": result.unsure}))
        return result
    return None


def are_photographs(store: Store, data: Dataset) -> bool:
    """Whether the images of a dataset are photographs, from a few of them; cheap enough for every ``data add``.

    Drawings in flat colours are recognised by the number of their colours, without importing torch.
    """
    colours = [_num_colours(image) for image in _sampled_images(data, FEW_CHECKED)]
    if not colours or median(colours) < MIN_COLOURS:
        return False
    kinds = dataset_kinds(store, data.digest, lambda: data, FEW_CHECKED)
    return kinds is not None and kinds.main == PHOTOGRAPH and not kinds.is_unsure


def _sampled_images(data: Dataset, max_checked: int) -> Iterator[Image.Image]:
    """The images of a sample at equal distances that can be decoded."""
    count = min(len(data), max_checked)
    for sample in (data.samples[i * len(data) // count] for i in range(count)):
        with suppress(DataError):
            yield _reduced(decode_sample(data, sample))


def _num_colours(image: Image.Image) -> int:
    """The number of different colours of an image at ``COLOURS_SIDE`` pixels a side, without blending neighbours."""
    small = image.convert("RGB").resize((COLOURS_SIDE, COLOURS_SIDE), resample=0)
    return len(small.getcolors(COLOURS_SIDE**2) or ())


def _reduced(image: Image.Image) -> Image.Image:
    """The image, at most as large as the network needs: 64 of 12 megapixels would take 3 GB."""
    image.thumbnail((MAX_SIDE, MAX_SIDE))
    return image


def folder_kinds(store: Store, folder: Path) -> ImageKinds | None:
    """The kinds of the images in a folder, from a sample: the files whose names have the smallest digests.

    A new file rarely changes the sample, and a file is looked at once while its size and time stay the same.

    Returns:
        None where they cannot be known, because ``photos`` cannot be opened on this machine.
    """
    names = list(_image_names(folder))
    if len(names) > MAX_CHECKED:
        names = sorted(names, key=lambda name: blake2b(os.fsencode(name), digest_size=8).digest())[:MAX_CHECKED]
    guesses = file_kinds(store, [folder / name for name in names])
    return None if guesses is None else ImageKinds.of(guesses.values())


def file_kinds(store: Store, files: Iterable[Path]) -> dict[Path, tuple[str, bool]] | None:
    """The kind of each image file, and whether the guess is confident; a file that cannot be read is left out.

    Returns:
        None where they cannot be known, because ``photos`` cannot be opened on this machine.
    """
    code = _code()
    keys: dict[Path, bytes] = {}
    for path in files:
        with suppress(OSError):
            status = path.stat()
            if stat.S_ISREG(status.st_mode) and status.st_size <= MAX_FILE_BYTES:
                facts = (os.fsencode(os.path.abspath(path)).hex(), str(status.st_size), str(status.st_mtime_ns))
                keys[path] = answer_key("image-kind", code, *facts)
    known = store.answer_cache.get(list(keys.values()))
    found = {path: _decoded(known[key]) for path, key in keys.items() if key in known}
    missing = [path for path in keys if path not in found]
    new: dict[bytes, bytes] = {}
    try:
        for start in range(0, len(missing), BATCH_SIZE):
            images = {}
            for path in missing[start : start + BATCH_SIZE]:
                with suppress(OSError, InputError):
                    images[path] = _reduced(decode_image(path.read_bytes()))
            for path, guess in zip(images, kinds_of(list(images.values())), strict=True):
                found[path] = str(guess.kind), guess.is_confident
                new[keys[path]] = canonical([str(guess.kind), guess.is_confident])
    except (NotFound, IntegrityError, NotWritable):
        return None
    store.answer_cache.put(new)
    return found


def _decoded(answer: bytes) -> tuple[str, bool]:
    kind, is_confident = json.loads(answer)
    return str(kind), bool(is_confident)


def _image_names(folder: Path) -> Iterator[str]:
    """The image files of a folder and its subfolders, by their paths below it, without hidden ones."""
    waiting = [""]
    while waiting:
        below = waiting.pop()
        with suppress(OSError), os.scandir(folder / below) as entries:
            for entry in entries:
                if entry.name.startswith(".") or entry.name == IGNORED_FOLDER:
                    continue
                if entry.is_dir(follow_symlinks=False):
                    waiting.append(os.path.join(below, entry.name))
                elif is_image_name(entry.name):
                    yield os.path.join(below, entry.name)


def photo_encoder(model: object) -> PhotoEncoder | None:
    """The model itself if it is a photo encoder."""
    # Where nothing has imported the class, no model is one; importing it would load torch.
    module = sys.modules.get("clerestory.models.photo.encoder")
    return model if module is not None and isinstance(model, module.PhotoEncoder) else None


@cache
def _code() -> str:
    """What a guess depends on besides the image."""
    return digest_file(Path(str(package_files("clerestory"))) / PHOTOS / KINDS_FILE) + code_digest(
        "models/photo", "data/images"
    )
