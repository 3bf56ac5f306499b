"""Results that a user names a file for: checked before the work, never overwritten unasked, never half."""

from __future__ import annotations

from pathlib import Path

import pytest

from clerestory.core.errors import InputError
from clerestory.core.outputs import check_output, check_output_folder, output_folder, write_output


def test_a_new_file_in_an_existing_folder_is_fine(tmp_path: Path) -> None:
    check_output(tmp_path / "a.csv")
    write_output(tmp_path / "a.csv", b"1")
    assert (tmp_path / "a.csv").read_bytes() == b"1"
    assert [path.name for path in tmp_path.iterdir()] == ["a.csv"]


def test_an_existing_file_is_replaced_only_when_asked(tmp_path: Path) -> None:
    path = tmp_path / "a.csv"
    path.write_text("by hand", encoding="utf-8")
    for attempt in (lambda: check_output(path), lambda: write_output(path, b"new")):
        with pytest.raises(InputError, match="already exists") as caught:
            attempt()
        assert "--force" in caught.value.fix
    assert path.read_text(encoding="utf-8") == "by hand"
    write_output(path, b"new", force=True)
    assert path.read_bytes() == b"new"


def test_a_link_to_nothing_is_not_replaced_either(tmp_path: Path) -> None:
    (tmp_path / "link").symlink_to(tmp_path / "nowhere")
    with pytest.raises(InputError, match="already exists"):
        check_output(tmp_path / "link")


def test_a_missing_folder_is_not_created(tmp_path: Path) -> None:
    for check in (check_output, check_output_folder):
        with pytest.raises(InputError, match="does not exist") as caught:
            check(tmp_path / "no" / "such" / "a.csv")
        assert "mkdir -p" in caught.value.fix
    with pytest.raises(InputError, match="does not exist"):
        write_output(tmp_path / "no" / "a.csv", b"", force=True)
    assert not (tmp_path / "no").exists()


def test_a_folder_in_place_of_a_file_is_refused_even_with_force(tmp_path: Path) -> None:
    (tmp_path / "a").mkdir()
    with pytest.raises(InputError, match="is a folder"):
        check_output(tmp_path / "a", force=True)


def test_a_file_in_place_of_a_folder_is_refused(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("", encoding="utf-8")
    with pytest.raises(InputError, match="is a file"):
        check_output_folder(tmp_path / "file")
    with pytest.raises(InputError, match="is a file, not a folder"):
        check_output(tmp_path / "file" / "a.csv")


def test_a_folder_appears_whole_or_not_at_all(tmp_path: Path) -> None:
    def stop_half_way() -> None:
        with output_folder(tmp_path / "new") as folder:
            (folder / "part").write_text("1", encoding="utf-8")
            raise ValueError("half way")

    with pytest.raises(ValueError, match="half way"):
        stop_half_way()
    assert not list(tmp_path.iterdir())
    with output_folder(tmp_path / "new") as folder:
        (folder / "sub").mkdir()
        (folder / "sub" / "part").write_text("1", encoding="utf-8")
        assert not (tmp_path / "new").exists()
    assert [path.name for path in tmp_path.iterdir()] == ["new"]
    assert (tmp_path / "new" / "sub" / "part").read_text(encoding="utf-8") == "1"


def test_an_empty_folder_may_be_filled_and_a_full_one_may_not(tmp_path: Path) -> None:
    (tmp_path / "new").mkdir()
    with output_folder(tmp_path / "new") as folder:
        (folder / "a").write_text("1", encoding="utf-8")
    with pytest.raises(InputError, match="already exists and is not empty"), output_folder(tmp_path / "new"):
        pass
    assert (tmp_path / "new" / "a").is_file()
