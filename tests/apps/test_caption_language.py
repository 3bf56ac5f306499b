"""Captions that are not in the language that is recorded, or that the model reads."""

from __future__ import annotations

import json
import shlex
from pathlib import Path

import pytest
from tests.support.images import noise_images, solid_image

from clerestory.apps.caption_language import main_language, unmarked_language, unread_language
from clerestory.apps.datasets import add_dataset, load_dataset
from clerestory.cli.evaluate import chosen_language
from clerestory.cli.main import run
from clerestory.core.errors import DataError
from clerestory.core.sample import Caption, Dataset, Sample
from clerestory.data import open_data
from clerestory.models import open_reference
from clerestory.store import Store, open_store

GERMAN = [
    "Ein Hund läuft über eine grüne Wiese",
    "Zwei Kinder spielen am Strand mit einem Ball",
    "Eine Frau fährt mit dem Fahrrad durch die Stadt",
    "Ein Mann sitzt auf einer Bank und liest die Zeitung",
    "Mehrere Boote liegen im Hafen vor den Häusern",
    "Ein kleines Mädchen trägt einen roten Mantel",
]
FRENCH = [
    "Un chien court dans une prairie verte",
    "Deux enfants jouent sur la plage avec un ballon",
    "Une femme roule à vélo dans la ville",
    "Un homme lit le journal sur un banc",
    "Plusieurs bateaux sont amarrés dans le port",
]
JAPANESE = [
    "犬が草原を走っています",
    "子供たちが海辺で遊んでいます",
    "女性が自転車に乗っています",
    "男性がベンチに座っています",
    "港に船が並んでいます",
]
ENGLISH = [
    "A dog runs over a green meadow",
    "Two children play on the beach with a ball",
    "A woman rides a bicycle through the town",
    "A man reads a newspaper on a bench",
    "Several boats lie in the harbour",
    "A geisha in a kimono eats sashimi in Kyoto",
]
NAMES = ["Kindergarten", "Schadenfreude", "el niño", "croissant", "pain au chocolat", "Blitzkrieg", "La Paz"]


def dataset(captions: list[str], lang: str = "en") -> Dataset:
    samples = [Sample(f"{i}", f"{i:064x}", (Caption(text, lang),)) for i, text in enumerate(captions)]
    return Dataset("mine", samples, lambda sample: b"")


@pytest.mark.parametrize(
    ("captions", "language"),
    [
        (GERMAN, "de"),
        (FRENCH, "fr"),
        (JAPANESE, "ja"),
        (ENGLISH, ""),
        (NAMES, ""),
        (GERMAN[:3] + ENGLISH, ""),
        (GERMAN[:3], ""),
        (["A photo of one thing"] * 20, ""),
        ([], ""),
    ],
)
def test_only_captions_that_are_plainly_not_english_are_named(captions: list[str], language: str) -> None:
    assert unmarked_language(dataset(captions)) == language
    assert unmarked_language(dataset(captions, "de")) == "", "what the data says itself is not doubted"


def test_built_in_captions_are_english() -> None:
    assert unmarked_language(open_data("photographs")) == ""


def test_a_model_of_one_language_is_warned_about() -> None:
    photos = open_reference("photos")
    assert "are in German, and the text tower of this model was trained on English only" in unread_language(
        photos, dataset(GERMAN)
    )
    assert "are in French" in unread_language(photos, dataset(FRENCH, "fr-CA"))
    for data in (dataset(ENGLISH), dataset(NAMES), dataset(ENGLISH, "en-GB"), dataset([])):
        assert unread_language(photos, data) == ""
    assert unread_language(object(), dataset(GERMAN)) == "", "its languages are not known"
    assert main_language(dataset(GERMAN, "nl")) == "nl"


def test_data_without_english_captions_is_evaluated_in_its_own_language() -> None:
    assert chosen_language(dataset(GERMAN, "de")) == "de"
    assert chosen_language(dataset(ENGLISH, "en-GB")) == chosen_language(dataset([])) == "en"


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    folder = tmp_path / "urlaub"
    folder.mkdir()
    lines = ["image,caption,caption_fr"]
    for number, text in enumerate(GERMAN):
        noise_images((3, 4 + number))[0].save(folder / f"{number}.png")
        lines.append(f"{number}.png,{text},{FRENCH[0]}")
    (folder / "captions.csv").write_text("\n".join(lines), encoding="utf-8")
    return folder


def test_the_language_is_suggested_and_recorded(
    folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("CLERESTORY_HOME", str(tmp_path / "home"))
    assert run(["data", "add", str(folder)]) == 0
    warning = next(line for line in capsys.readouterr().err.splitlines() if line.startswith("warning: "))
    assert "the captions seem to be German, and are recorded as English (en)" in warning
    assert run([*shlex.split(warning.rpartition("clerestory ")[2]), "--json"]) == 0
    shown = capsys.readouterr()
    assert json.loads(shown.out)["counts"]["language"] == {"de": 6, "fr": 6}
    assert "seem to be" not in shown.err
    with open_store(tmp_path / "home") as store:
        assert {caption.lang for s in load_dataset(store, "urlaub") for caption in s.captions} == {"de", "fr"}


def test_the_language_goes_with_new_splits_and_can_be_changed(folder: Path, tmp_path: Path) -> None:
    store: Store = open_store(tmp_path / "home")
    add_dataset(store, str(folder), "a", new_splits=True, language="de")
    add_dataset(store, "a", language="nl_BE")
    [row] = store.datasets()
    assert row.spec == f"new-splits:language:nl-BE:{folder}"
    data = open_data(row.spec)
    assert data.digest == row.digest
    assert {s.captions[0].lang for s in data} == {"nl-BE"}
    assert data.read(data.samples[0]) == (folder / data.samples[0].source).read_bytes()
    with pytest.raises(DataError, match="'german' is not a language tag"):
        add_dataset(store, str(folder), "b", language="german")
    (tmp_path / "other").mkdir()
    (tmp_path / "other" / "x.png").write_bytes(solid_image("red"))
    with pytest.raises(Exception, match="belongs to the dataset from"):
        add_dataset(store, str(tmp_path / "other"), "a", language="de")
