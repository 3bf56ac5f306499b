"""Items with options (multiple choice, yes or no) and short answers, answered by a ``Scorer`` or a ``Generator``."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np

from clerestory.core.rows import Condition, Unscored
from clerestory.core.sample import Sample
from clerestory.models.protocols import Reply, Scores
from clerestory.models.replies.reading import read_choice, read_short_answer, read_yes_no
from clerestory.stages.evaluate.row_builder import MissingScore
from clerestory.stages.evaluate.tasks.answer_parsing import format_options, option_score, parse_yes_no
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
    condition: str = Condition.CLEAN,
) -> list[ScoredItem]:
    """Score items with a ``Generator``, whose replies are parsed.

    An empty reply, an error, and a reply that is not understood leave an item unscored with their reason. A choice is
    prompted in every cyclic order of its options, and its score is the mean over all of them: one order without an
    answer leaves the item unscored, because the mean over the others would favour models with a position bias.

    Under an ablation a complete reply without an answer scores 0: a model that declines to guess has not solved the
    item without its image.
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
        orders = [options for _, _, options in variants[rows]]
        one = _score_replies(task, item, orders, replies[rows], condition == Condition.CLEAN, model.max_reply_tokens)
        scored.append(replace(one, prompt=prompts[start]))
        start += count
    return scored


def _score_replies(
    task: Task,
    item: TaskItem,
    orders: Sequence[tuple[str, ...]],
    replies: Sequence[Reply | MissingScore],
    needs_answer: bool,
    max_reply_tokens: int,
) -> ScoredItem:
    """Score an item by the replies to the orders of its options."""
    received = [reply for reply in replies if isinstance(reply, Reply)]
    missing = next((reply for reply in replies if isinstance(reply, MissingScore)), None)
    if missing is not None:
        return ScoredItem(missing=missing)
    costs = ScoredItem(
        tokens_in=float(sum(reply.tokens_in for reply in received)),
        tokens_out=float(sum(reply.tokens_out for reply in received)),
        ms=float(sum(reply.ms for reply in received)),
    )
    read = [_read(task, item, options, reply) for options, reply in zip(orders, received, strict=True)]
    unread = [reply for (_, correct), reply in zip(read, received, strict=True) if correct is None]
    lost = [reply for reply in unread if needs_answer or reply.cut_off]
    if lost and item.answers:
        why = f"cut off at {max_reply_tokens:,} tokens" if lost[0].cut_off else ""
        not_understood = MissingScore(Unscored.NOT_UNDERSTOOD, why)
        return replace(costs, answer=lost[0].text.strip(), missing=not_understood, not_understood=1.0)
    correct = [bool(each) for _, each in read] if item.answers else []
    answers = [answer for answer, _ in read]
    return replace(
        costs,
        score=float(np.mean(correct)) if correct else NAN,
        answer=max(answers, key=answers.count),
        all_orders=float(all(correct)) if len(correct) > 1 else NAN,
        not_understood=float(bool(unread)) if item.answers else NAN,
    )


def _read(task: Task, item: TaskItem, options: Sequence[str], reply: Reply) -> tuple[str, bool | None]:
    """The answer that a reply means and whether it is correct; the reply itself and None if it is not understood."""
    text = reply.text.strip()
    if task.answer_scorer == "yes_no":
        polarity = read_yes_no(text, item.question, reply.cut_off)
        return polarity or text, None if polarity is None else polarity in {parse_yes_no(each) for each in item.answers}
    if options:
        index = read_choice(text, options, reply.cut_off)
        return (text, None) if index is None else (options[index], options[index] in item.answers)
    return text, read_short_answer(text, task.answer_scorer, item.answers, reply.cut_off)


def _prompt(task: Task, item: TaskItem, options: Sequence[str]) -> str:
    """The first prompt with its placeholders filled in; braces in the data are not changed."""
    prompt = task.prompt_templates[0].replace("{question}", item.question)
    return prompt.replace("{options}", format_options(options)).strip()


def _query(image: Sample | None, load: LoadImage, text: str, options: tuple[str, ...]) -> Query:
    if image is None:
        return Query(NO_IMAGE, lambda: None, text, options)
    return Query(image.image, lambda: load(image), text, options)
