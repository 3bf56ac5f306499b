"""What the small applications share: loading the model with its notices, and how answers are labelled."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from clerestory.apps.confidence import NOT_MEASURED, Confidence
from clerestory.apps.folder_index import Unreadable
from clerestory.apps.loading import load_model, privacy_notice
from clerestory.apps.right_model import ImageKinds, choose_model
from clerestory.apps.starter import live_or_starter
from clerestory.apps.training_reference import OTHER_MODEL
from clerestory.cli.output import Common, Output
from clerestory.core.units import plural
from clerestory.models.protocols import AnyModel
from clerestory.store import Store

MAX_NAMED = 3  # unreadable files that are named for each reason


def load_named(store: Store, ref: str, common: Common) -> AnyModel:
    """Load a model; a replacement by the starter, and a model on another computer, are announced first."""
    ref, replaced = live_or_starter(store, ref)
    if replaced:
        common.out.write_line(f"notice: {replaced}")
    if notice := privacy_notice(ref, store):
        common.out.write_line(f"notice: {notice}")
    return load_model(store, ref)[0]


def load_fitting(store: Store, ref: str, kinds: Callable[[], ImageKinds | None], common: Common) -> AnyModel:
    """Load the named model or, if none is named, the one that fits the images; the choice and its reason are announced.

    Args:
        store: the releases.
        ref: the reference that the user gave; empty if none.
        kinds: looks at the images; called if the user named no model.
        common: the options of the command.
    """
    if ref:
        return load_named(store, ref, common)
    choice = choose_model(store, kinds())
    if choice.warning:
        common.out.write_line(f"warning: {choice.warning}")
    if choice.notice:
        common.out.write_line(f"notice: {choice.notice}")
    return load_named(store, choice.ref, common)


def warn(sentence: str, out: Output) -> None:
    """The warning that the model does not fit the images, with the remedy; nothing for an empty sentence."""
    if sentence:
        out.write_line(f"warning: {sentence}; {OTHER_MODEL}")


def label(confidence: Confidence | None) -> str:
    """The word for the confidence of an answer."""
    return confidence.label if confidence else NOT_MEASURED


def name_unreadable(unreadable: Sequence[Unreadable], out: Output, is_known: bool = False) -> None:
    """The files that were left out: of each reason the first ones are named, and the others counted.

    Args:
        unreadable: the files and folders.
        out: for the lines.
        is_known: whether they were named before; then there is only their number.
    """
    if is_known and unreadable:
        files = plural(len(unreadable), "file is", "files are")
        out.write_line(f"notice: {files} left out, as before; --rescan-all names them again")
        return
    by_problem: dict[str, list[str]] = {}
    for each in unreadable:
        by_problem.setdefault(each.problem, []).append(each.path)
    for problem, paths in by_problem.items():
        for path in paths[:MAX_NAMED]:
            out.write_line(f"{path} is left out: {problem}")
        if len(paths) > MAX_NAMED:
            out.write_line(f"{plural(len(paths) - MAX_NAMED, 'more file is', 'more files are')} left out: {problem}")
