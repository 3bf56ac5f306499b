"""Task files over coloured tiles, and models whose correct and incorrect answers are known."""

import csv
import hashlib
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from PIL import Image, ImageColor
from tests.support.images import encode_image

from clerestory.core.digest import digest
from clerestory.models.protocols import GenerationRequest, Reply, Scores

NAMES = ("red", "lime", "blue", "yellow", "magenta", "cyan", "black", "white")


def tile(folder: Path, name: str, colour: str, place: int) -> str:
    """Write a tile of one colour with a distinct pixel; returns the file's name."""
    image = Image.new("RGB", (12, 12), colour)
    image.putpixel((place % 12, place // 12 % 12), (place % 251, place // 251 % 251, 7))
    (folder / name).write_bytes(encode_image(image))
    return name


def write_table(file: Path, rows: Sequence[dict[str, str]]) -> Path:
    with file.open("w", encoding="utf-8", newline="") as out:
        writer = csv.DictWriter(out, fieldnames=list(rows[0]))
        writer.writeheader()
        writer.writerows(rows)
    return file


def write_quiz(folder: Path, count: int, giveaway: float = 0.0, seed: int = 0, options: int = 4) -> Path:
    """A table of questions about colours, a share of which contain their answer."""
    folder.mkdir(parents=True, exist_ok=True)
    rng = np.random.default_rng(seed)
    planted = set(rng.permutation(count)[: round(giveaway * count)].tolist())
    rows = []
    for i in range(count):
        some = rng.permutation(len(NAMES))[:options]
        answer = NAMES[some[rng.integers(options)]]
        hint = f" Hint: it is {answer}." if i in planted else ""
        rows.append(
            {
                "image": tile(folder, f"{i:05d}.png", answer, i),
                "question": f"Which colour has tile {i}, the one that we have been looking at for so long?{hint}",
                "choices": "|".join(NAMES[j] for j in some),
                "answer": answer,
                "concept": f"tile {i}",
                "size": "large" if i % 2 else "small",
                "split": "test",
            }
        )
    return write_table(folder / "quiz.csv", rows)


TASK = """
name = "colours"
kind = "multiple_choice"
data = "quiz.csv"
question = "question"
options = "choices"
answer = "answer"
groups = ["size"]
licence = "CC0-1.0"
"""


def write_task(folder: Path, text: str = TASK) -> Path:
    file = folder / "mine.toml"
    file.write_text(text, encoding="utf-8")
    return file


def named_colour(image: Image.Image) -> str:
    """The name of a tile's colour."""
    median = np.median(np.asarray(image).reshape(-1, 3), axis=0)
    return min(NAMES, key=lambda name: float(np.abs(median - ImageColor.getrgb(name)).sum()))


class RuleBasedScorer:
    """A ``Scorer`` that recognises colours, follows hints, and otherwise guesses by a hash of the text."""

    def __init__(self, order_matters: bool = False, favours_first: bool = False) -> None:
        self.order_matters = order_matters
        self.favours_first = favours_first
        self.digest = digest({"reader": [order_matters, favours_first]})
        self.asked = 0
        self.sure = 3.0

    def score_options(
        self, images: Sequence[Image.Image | None], questions: Sequence[str], options: Sequence[Sequence[str]]
    ) -> list[Scores]:
        self.asked += len(images)
        return [self._one(*each) for each in zip(images, questions, options, strict=True)]

    def _one(self, image: Image.Image | None, question: str, options: Sequence[str]) -> Scores:
        hint = question.partition("Hint: it is ")[2].rstrip(".")
        wanted = hint or (named_colour(image) if image is not None else "")
        if wanted not in options:
            wanted = min(options, key=lambda o: hashlib.sha256(f"{question}/{o}".encode()).digest())
        if self.favours_first and not hint:
            wanted = options[0]
        likes = np.array([0.0 if option == wanted else -self.sure for option in options])
        return likes - np.log(np.exp(likes).sum())


class ScriptedGenerator:
    """A ``Generator`` whose answers come from a function; it stores the prompts."""

    def __init__(self, say: object, name: str = "talker") -> None:
        self.say = say
        self.digest = digest({"talker": name})
        self.prompts: list[str] = []

    def generate(self, requests: Sequence[GenerationRequest]) -> list[Reply]:
        self.prompts += [request.prompt for request in requests]
        return [self._one(request) for request in requests]

    def _one(self, request: GenerationRequest) -> Reply:
        said = self.say(request)  # type: ignore[operator]  # any function of a request
        if isinstance(said, Reply):
            return said
        if isinstance(said, Exception):
            return Reply("", 0, 0, 1.0, str(said))
        return Reply(said, 10, 3, 1.0)


class IncapableModel:
    """A model without any capability."""

    digest = digest("blank")
