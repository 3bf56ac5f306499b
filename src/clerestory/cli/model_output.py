"""What the small applications share: loading the model with its notices, and how answers are labelled."""

from __future__ import annotations

from clerestory.apps.confidence import NOT_MEASURED, Confidence
from clerestory.apps.loading import load_model, privacy_notice
from clerestory.apps.starter import live_or_starter
from clerestory.apps.training_reference import OTHER_MODEL
from clerestory.cli.output import Common, Output
from clerestory.models.protocols import AnyModel
from clerestory.store import Store


def load_named(store: Store, ref: str, common: Common) -> AnyModel:
    """Load a model; a replacement by the starter, and a model on another computer, are announced first."""
    ref, replaced = live_or_starter(store, ref)
    if replaced:
        common.out.write_line(f"notice: {replaced}")
    if notice := privacy_notice(ref, store):
        common.out.write_line(f"notice: {notice}")
    return load_model(store, ref)[0]


def warn(sentence: str, out: Output) -> None:
    """The warning that the model does not fit the images, with the remedy; nothing for an empty sentence."""
    if sentence:
        out.write_line(f"warning: {sentence}; {OTHER_MODEL}")


def label(confidence: Confidence | None) -> str:
    """The word for the confidence of an answer."""
    return confidence.label if confidence else NOT_MEASURED
