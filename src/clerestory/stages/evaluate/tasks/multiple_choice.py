"""Items with options (multiple choice, yes or no) and short answers, asked of a ``Scorer`` or a ``Generator``."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

import numpy as np

from clerestory.core.sample import Sample
from clerestory.models.protocols import Reply, Scores
from clerestory.stages.evaluate.tasks.answer_parsing import chosen_option, credit, lettered, right, yes_or_no
from clerestory.stages.evaluate.tasks.items import Item
from clerestory.stages.evaluate.tasks.memoised_queries import BLIND, Asker, Question
from clerestory.stages.evaluate.tasks.scored_item import NAN, Outcome, probable
from clerestory.stages.evaluate.tasks.task import Task

if TYPE_CHECKING:
    from PIL import Image

Load = Callable[[Sample], "Image.Image | None"]
Statements = Callable[[Item], tuple[str, tuple[str, ...]]]


def score_items(
    asker: Asker,
    items: Sequence[Item],
    pictures: Sequence[Sample | None],
    load: Load,
    label: str,
    statements: Statements | None = None,
) -> list[Outcome]:
    """Let a ``Scorer`` choose, in every cyclic order of the options where their order matters to it.

    The score is the mean over the orders; the answer is the option with the highest mean probability.

    Args:
        asker: the model.
        items: what to ask; each with options.
        pictures: what to show for each, None for nothing.
        load: decodes a picture.
        label: for the progress bar.
        statements: says the question and the options of an item in other words, option by option.
    """
    said = [statements(item) if statements else (item.question, item.options) for item in items]
    orders = [range(len(item.options) if asker.model.order_matters else 1) for item in items]
    questions = [
        _question(picture, load, words, options[turn:] + options[:turn])
        for (words, options), picture, turns in zip(said, pictures, orders, strict=True)
        for turn in turns
    ]
    answers = iter(asker.scores(questions, label))
    outcomes = []
    for item, (words, options), turns in zip(items, said, orders, strict=True):
        found = [next(answers) for _ in turns]
        reason = next((answer for answer in found if isinstance(answer, str)), "")
        prompt = "\n".join((words, *options))
        if reason:
            outcomes.append(Outcome(unscored=reason, prompt=prompt))
        else:
            scores = [np.roll(answer, turn) for turn, answer in zip(turns, found, strict=True)]
            outcomes.append(_chosen(item, [s for s in scores if not isinstance(s, str)], prompt))
    return outcomes


def _chosen(item: Item, scores: Sequence[Scores], prompt: str) -> Outcome:
    """From log-probabilities in the item's own order of options, one array for each order asked in."""
    probabilities = np.mean([np.exp(each) / np.exp(each).sum() for each in scores], axis=0)
    answer = item.options[int(probabilities.argmax())]
    if not item.answers:
        return Outcome(answer=answer, prompt=prompt)
    credits = [credit(each, item.right) for each in scores]
    confidence, nll, brier = probable(probabilities, item.right)
    all_orders = float(min(credits) == 1.0) if len(scores) > 1 else NAN
    return Outcome(float(np.mean(credits)), answer, "", all_orders, confidence, nll, brier, prompt)


def answer_items(
    asker: Asker, task: Task, items: Sequence[Item], pictures: Sequence[Sample | None], load: Load, label: str
) -> list[Outcome]:
    """Let a ``Generator`` answer in words, and read what it says.

    A reply that names no option is wrong; an empty one, or an error, is unscored with its reason. A choice is asked in
    every cyclic order of its options, and its score is the mean over all of them: one order without an answer leaves
    the item unscored, since the mean over the others would reward whoever likes a place.
    """
    turns = [len(item.options) if task.compared == "choice" else 1 for item in items]
    asked = [
        (item, picture, item.options[turn:] + item.options[:turn])
        for item, picture, count in zip(items, pictures, turns, strict=True)
        for turn in range(count)
    ]
    prompts = [_prompt(task, item, options) for item, _, options in asked]
    questions = [_question(picture, load, words, ()) for (_, picture, _), words in zip(asked, prompts, strict=True)]
    replies = asker.replies(questions, label)
    outcomes, place = [], 0
    for item, count in zip(items, turns, strict=True):
        some = slice(place, place + count)
        outcomes.append(_answered(task, item, [o for _, _, o in asked[some]], replies[some], prompts[place]))
        place += count
    return outcomes


def _answered(
    task: Task, item: Item, options: Sequence[tuple[str, ...]], replies: Sequence[Reply | str], prompt: str
) -> Outcome:
    heard = [reply for reply in replies if isinstance(reply, Reply)]
    reason = next((reply for reply in replies if isinstance(reply, str)), "")
    if reason:
        return Outcome(unscored=reason, prompt=prompt)
    said = [_meant(task, each, reply.text) for each, reply in zip(options, heard, strict=True)]
    hits = [bool(item.answers) and right("exact" if item.options else task.compared, s, item.answers) for s in said]
    if item.options and not item.answers:
        hits = []
    return Outcome(
        score=float(np.mean(hits)) if hits else NAN,
        answer=max(said, key=said.count),
        all_orders=float(all(hits)) if len(hits) > 1 else NAN,
        prompt=prompt,
        tokens_in=float(sum(reply.tokens_in for reply in heard)),
        tokens_out=float(sum(reply.tokens_out for reply in heard)),
        ms=float(sum(reply.ms for reply in heard)),
    )


def _meant(task: Task, options: Sequence[str], text: str) -> str:
    """The option that a reply means, or the reply itself where it means none."""
    if task.compared == "yes_no":
        return yes_or_no(text) or text.strip()
    if not options:
        return text.strip()
    place = chosen_option(text, options)
    return text.strip() if place is None else options[place]


def _prompt(task: Task, item: Item, options: Sequence[str]) -> str:
    """The words of the first prompt, filled in; braces of the data stay as they are."""
    words = task.asked[0].replace("{question}", item.question)
    return words.replace("{options}", lettered(options)).strip()


def _question(picture: Sample | None, load: Load, words: str, options: tuple[str, ...]) -> Question:
    if picture is None:
        return Question(BLIND, lambda: None, words, options)
    return Question(picture.image, lambda: load(picture), words, options)
