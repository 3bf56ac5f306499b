"""``photos``, the model for photographs that is part of Clerestory: its folder, made from what is installed.

The weights of the network are a package of their own, and the space is a file of Clerestory, so the folder, and with it
the digest of the model, is the same on every machine. It is made once, in the cache.
"""

from __future__ import annotations

import json
import tempfile
from importlib.resources import files
from pathlib import Path

from clerestory.core.digest import digest, digest_file
from clerestory.core.files import cache_folder, copy_folder, file_lock, make_folder, sync_folder, translate_disk_errors
from clerestory.models.folder_check import CONFIG
from clerestory.models.photo.package import PACKAGES, find_weights
from clerestory.models.starter import PHOTOS

WRITABLE_CACHE = "set CLERESTORY_CACHE to a folder with free space that can be written"
SPACE_FILE, SETTINGS_FILE, CARD_FILE = "space.safetensors", "settings.json", "card.md"


def resource(name: str) -> Path:
    """A file of the package that belongs to ``photos``."""
    return Path(str(files("clerestory"))) / PHOTOS / name


def photos_folder() -> Path:
    """The model folder, in the cache; made if it is not there.

    Raises:
        NotFound, IntegrityError: the weights of the network are not on this machine, or are others.
        NotWritable: the cache cannot be written.
    """
    settings = json.loads(resource(SETTINGS_FILE).read_text(encoding="utf-8"))
    inputs = [digest_file(resource(name)) for name in (SPACE_FILE, SETTINGS_FILE, CARD_FILE)]
    key = digest([*inputs, PACKAGES[settings["variant"]].sha256])
    target = cache_folder() / PHOTOS / key
    if not (target / CONFIG).is_file():
        find_weights(settings["variant"])  # the usual reason of a failure, before anything is written
        with translate_disk_errors(target.parent, WRITABLE_CACHE), file_lock(target.parent / ".lock"):
            if not (target / CONFIG).is_file():
                _make(target, settings)
    return target


def _make(target: Path, settings: dict[str, object]) -> None:
    """Write the folder beside its place, then rename it."""
    from clerestory.models.loading import load_tensors
    from clerestory.models.photo.encoder import save_photo_encoder
    from clerestory.models.photo.package import read_weights
    from clerestory.models.photo.space import PhotoSpace

    tensors, _ = load_tensors(resource(SPACE_FILE))
    space = PhotoSpace.from_tensors({name: tensor.numpy() for name, tensor in tensors.items()})
    card = resource(CARD_FILE).read_text(encoding="utf-8")
    make_folder(target.parent)
    with tempfile.TemporaryDirectory(dir=target.parent) as temporary:
        folder = Path(temporary) / target.name
        folder.mkdir()
        save_photo_encoder(read_weights(str(settings["variant"])), space, settings, card, folder)
        copy_folder(folder, complete := Path(temporary) / "complete")  # which flushes it to the disk
        complete.replace(target)
        sync_folder(target.parent)
