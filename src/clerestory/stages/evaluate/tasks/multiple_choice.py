"""Items with options (multiple choice, yes or no) and short answers, answered by a ``Scorer`` or a ``Generator``."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

import numpy as np

from clerestory.core.sample import Sample
from clerestory.models.protocols import Reply, Scores
from clerestory.stages.evaluate.row_builder import MissingScore
from clerestory.stages.evaluate.tasks.answer_parsing import (
    format_options,
    is_correct,
    option_score,
    parse_option,
    parse_yes_no,
)
from clerestory.stages.evaluate.tasks.items import TaskItem
from clerestory.stages.evaluate.tasks.memoised_queries import NO_IMAGE, MemoisedModel, Query
from clerestory.stages.evaluate.tasks.scored_item import NAN, ScoredItem, probability_scores
from clerestory.stages.evaluate.tasks.task import Task

if TYPE_CHECKING:
    from PIL import Image

LoadImage = Callable[[Sample], "Image.Image | None"]
Rephrase = Callable[[TaskItem], tuple[str, tuple[str, ...]]]


def score_with_options(
    model: MemoisedModel,
    items: Sequence[TaskItem],
    images: Sequence[Sample | None],
    load: LoadImage,
    label: str,
    rephrase: Rephrase | None = None,
) -> list[ScoredItem]:
    """Score items with a ``Scorer``, in every cyclic order of the options if the order matters to it.

    The score is the mean over the orders; the answer is the option with the highest mean probability.

    Args:
        model: a ``Scorer``.
        items: each with options.
        images: one for each item, None for no image.
        load: decodes an image.
        label: of the progress bar.
        rephrase: returns a paraphrase of the question and the options of an item.
    """
    texts = [rephrase(item) if rephrase else (item.question, item.options) for item in items]
    orders = [range(len(item.options) if model.model.order_matters else 1) for item in items]
    queries = [
        _query(image, load, question, options[shift:] + options[:shift])
        for (question, options), image, shifts in zip(texts, images, orders, strict=True)
        for shift in shifts
    ]
    answers = iter(model.score_options(queries, label))
    scored = []
    for item, (question, options), shifts in zip(items, texts, orders, strict=True):
        received = [next(answers) for _ in shifts]
        prompt = "\n".join((question, *options))
        missing = next((answer for answer in received if isinstance(answer, MissingScore)), None)
        if missing is not None:
            scored.append(ScoredItem(missing=missing, prompt=prompt))
        else:
            scores = [
                np.roll(answer, shift)
                for shift, answer in zip(shifts, received, strict=True)
                if not isinstance(answer, MissingScore)
            ]
            scored.append(_choose(item, scores, prompt))
    return scored


def _choose(item: TaskItem, scores: Sequence[Scores], prompt: str) -> ScoredItem:
    """Score one item from the log-probabilities in its original option order, one array for each evaluated order."""
    probabilities = np.mean([np.exp(each) / np.exp(each).sum() for each in scores], axis=0)
    answer = item.options[int(probabilities.argmax())]
    if not item.answers:
        return ScoredItem(answer=answer, prompt=prompt)
    by_order = [option_score(each, item.correct_option) for each in scores]
    confidence, nll, brier = probability_scores(probabilities, item.correct_option)
    all_orders = float(min(by_order) == 1.0) if len(scores) > 1 else NAN
    return ScoredItem(float(np.mean(by_order)), answer, None, all_orders, confidence, nll, brier, prompt)


def score_with_replies(
    model: MemoisedModel,
    task: Task,
    items: Sequence[TaskItem],
    images: Sequence[Sample | None],
    load: LoadImage,
    label: str,
) -> list[ScoredItem]:
    """Score items with a ``Generator``, whose replies are parsed.

    A reply that means no option is incorrect; an empty one, or an error, is unscored with its reason. A choice is
    prompted in every cyclic order of its options, and its score is the mean over all of them: one order without an
    answer leaves the item unscored, because the mean over the others would favour models with a position bias.
    """
    num_orders = [len(item.options) if task.answer_scorer == "choice" else 1 for item in items]
    variants = [
        (item, image, item.options[shift:] + item.options[:shift])
        for item, image, count in zip(items, images, num_orders, strict=True)
        for shift in range(count)
    ]
    prompts = [_prompt(task, item, options) for item, _, options in variants]
    queries = [_query(image, load, prompt, ()) for (_, image, _), prompt in zip(variants, prompts, strict=True)]
    replies = model.generate(queries, label)
    scored, start = [], 0
    for item, count in zip(items, num_orders, strict=True):
        rows = slice(start, start + count)
        scored.append(_score_replies(task, item, [o for _, _, o in variants[rows]], replies[rows], prompts[start]))
        start += count
    return scored


def _score_replies(
    task: Task,
    item: TaskItem,
    options: Sequence[tuple[str, ...]],
    replies: Sequence[Reply | MissingScore],
    prompt: str,
) -> ScoredItem:
    received = [reply for reply in replies if isinstance(reply, Reply)]
    missing = next((reply for reply in replies if isinstance(reply, MissingScore)), None)
    if missing is not None:
        return ScoredItem(missing=missing, prompt=prompt)
    answers = [_parse(task, each, reply.text) for each, reply in zip(options, received, strict=True)]
    scorer = "exact" if item.options else task.answer_scorer
    correct = [bool(item.answers) and is_correct(scorer, answer, item.answers) for answer in answers]
    if item.options and not item.answers:
        correct = []
    return ScoredItem(
        score=float(np.mean(correct)) if correct else NAN,
        answer=max(answers, key=answers.count),
        all_orders=float(all(correct)) if len(correct) > 1 else NAN,
        prompt=prompt,
        tokens_in=float(sum(reply.tokens_in for reply in received)),
        tokens_out=float(sum(reply.tokens_out for reply in received)),
        ms=float(sum(reply.ms for reply in received)),
    )


def _parse(task: Task, options: Sequence[str], text: str) -> str:
    """The option that a reply means, or the reply itself if it means none."""
    if task.answer_scorer == "yes_no":
        return parse_yes_no(text) or text.strip()
    if not options:
        return text.strip()
    index = parse_option(text, options)
    return text.strip() if index is None else options[index]


def _prompt(task: Task, item: TaskItem, options: Sequence[str]) -> str:
    """The first prompt with its placeholders filled in; braces in the data are not changed."""
    prompt = task.prompt_templates[0].replace("{question}", item.question)
    return prompt.replace("{options}", format_options(options)).strip()


def _query(image: Sample | None, load: LoadImage, text: str, options: tuple[str, ...]) -> Query:
    if image is None:
        return Query(NO_IMAGE, lambda: None, text, options)
    return Query(image.image, lambda: load(image), text, options)
