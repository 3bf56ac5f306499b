"""Which data is searched as a folder of images, and what its images say about a model."""

from __future__ import annotations

from pathlib import Path

from clerestory.apps.folder_index.index import FolderIndex
from clerestory.apps.folder_index.reading import read_file
from clerestory.apps.folder_index.walking import has_images, has_only_folder_links
from clerestory.apps.right_model import DRAWING, folder_kinds
from clerestory.apps.training_reference import NUM_CHECKED, TrainingReference, is_starter
from clerestory.core.extensions import names
from clerestory.core.files import expand_user
from clerestory.core.provenance import code_digest
from clerestory.data.sources import bare_source
from clerestory.store import Store
from clerestory.store.answer_cache import answer_key

# Files that Hugging Face's ``save_to_disk`` and ``clerestory data shards`` write beside the images of a dataset.
DATASET_FILES = ("dataset_dict.json", "state.json", "shards.json")


def image_folder(store: Store, source: str) -> Path | None:
    """The folder that a source names, if it has image files, or only links to folders, and is not another dataset.

    None otherwise. The name of a registered dataset, or of a built-in one, is never a folder; ``./NAME`` is.
    """
    if source in names("data") or any(row.name == source for row in store.datasets()):
        return None
    folder = expand_user(source)
    if not source or not folder.is_dir() or any((folder / name).is_file() for name in DATASET_FILES):
        return None
    return folder if has_images(folder) or has_only_folder_links(folder) else None


def dataset_folder(store: Store, name: str) -> Path | None:
    """The folder of images of a registered dataset; for any other name as ``image_folder``."""
    spec = next((row.spec for row in store.datasets() if row.name == name), "")
    return image_folder(store, bare_source(spec) or name)


def empty_folder(store: Store, source: str) -> Path | None:
    """The folder that a source names if nothing is in it yet, so that a server can wait for images; None otherwise."""
    if source in names("data") or any(row.name == source for row in store.datasets()):
        return None
    folder = expand_user(source)
    try:
        return folder if source and not any(not entry.name.startswith(".") for entry in folder.iterdir()) else None
    except OSError:
        return None


def count_unlike_files(reference: TrainingReference, index: FolderIndex, store: Store) -> tuple[int, int]:
    """How many images of a folder are unlike the training images of a model, and how many were checked.

    At most ``NUM_CHECKED`` are checked, those with the smallest digests, so that new files change few of them; each
    content is checked once.
    """
    if is_starter(reference) and (kinds := folder_kinds(store, index.folder)) is not None:
        return kinds.num_unlike(DRAWING), kinds.num_checked
    if reference.images is None:
        return 0, 0
    state = index.snapshot.state
    chosen = sorted(dict(zip(state.sha256, state.paths, strict=True)).items())[:NUM_CHECKED]
    code = code_digest("data/images", "stats/ood", "apps/image_statistics")
    keys = {answer_key("unlike-image", reference.model, code, sha256): path for sha256, path in chosen}
    known = store.answer_cache.get(list(keys))
    checked: dict[bytes, bytes] = {}
    for key, path in keys.items():
        if key not in known:
            image = read_file(index.folder, path, (0, 0, 0), lambda sha256: False).image
            if image is not None:
                checked[key] = b"1" if reference.images.unlike([image])[0] else b"0"
    store.answer_cache.put(checked)
    answers = [*known.values(), *checked.values()]
    return answers.count(b"1"), len(answers)
