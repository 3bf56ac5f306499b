"""Links in a model folder that is copied into the store."""

from __future__ import annotations

from pathlib import Path

import pytest

from clerestory.core.errors import InputError
from clerestory.store import open_store


def model_folder(folder: Path) -> Path:
    folder.mkdir(parents=True)
    (folder / "config.json").write_text("{}", encoding="utf-8")
    return folder


@pytest.mark.parametrize("name", ["tokenizer.json", "sub"])
@pytest.mark.parametrize("relative", [False, True])
def test_a_link_to_a_file_elsewhere_is_refused(tmp_path: Path, name: str, relative: bool) -> None:
    store = open_store(tmp_path / "home")
    folder = model_folder(tmp_path / "model")
    secret = tmp_path / "secret"
    if name == "sub":
        secret.mkdir()
        (secret / "key").write_text("secret", encoding="utf-8")
    else:
        secret.write_text("secret", encoding="utf-8")
    (folder / name).symlink_to("../secret" if relative else secret)
    with pytest.raises(InputError, match=f"{name} is a link to .*secret, which is outside the model folder"):
        store.put_model(folder)
    assert not any(path.read_bytes() == b"secret" for path in store.home.rglob("*") if path.is_file())


def test_a_dangling_link_is_refused(tmp_path: Path) -> None:
    folder = model_folder(tmp_path / "model")
    (folder / "weights").symlink_to(tmp_path / "gone")
    with pytest.raises(InputError, match="outside the model folder"):
        open_store(tmp_path / "home").put_model(folder)


def test_links_inside_the_folder_and_those_of_the_hub_are_copied_as_files(tmp_path: Path) -> None:
    store = open_store(tmp_path / "home")
    plain, cache = model_folder(tmp_path / "plain"), tmp_path / "models--org--name"
    (plain / "copy.json").symlink_to("config.json")
    snapshot = cache / "snapshots" / "0123"
    snapshot.mkdir(parents=True)
    (cache / "blobs").mkdir()
    (cache / "blobs" / "aa").write_text("{}", encoding="utf-8")
    for name in ("config.json", "copy.json"):
        (snapshot / name).symlink_to("../../blobs/aa")
    digest = store.put_model(plain)
    assert store.put_model(snapshot) == digest
    assert not any(path.is_symlink() for path in store.model_folder(digest).iterdir())
