"""The differences of two versions of a dataset, with reasons where a fix recorded them, and without personal data."""

from __future__ import annotations

from dataclasses import replace

from clerestory.apps.data_fix.run import fix_reasons
from clerestory.apps.datasets import view_dataset
from clerestory.core.progress import QUIET, Progress
from clerestory.data.diff import DataChange, DataDiff, SampleDiff, diff_data
from clerestory.stages.audit.personal_data import redact
from clerestory.store import Store

_TEXTS = (DataChange.CAPTIONS, DataChange.CONCEPT)
HIDDEN = "(personal data)"


def compare_versions(store: Store, before: str, after: str, progress: Progress = QUIET) -> DataDiff:
    """Compare two versions of a dataset.

    Args:
        store: knows datasets by name, and why a fix changed a sample.
        before: the name of a dataset, or any source that ``open_data`` opens.
        after: likewise.
        progress: reports opening them.
    """
    old, new = (view_dataset(store, source, progress) for source in (before, after))
    return diff_data(old, new, fix_reasons(store, old.digest, new.digest))


def shown_values(diff: DataDiff) -> DataDiff:
    """The differences as they may be shown: texts with placeholders in place of personal data.

    A concept made from a caption has no punctuation, by which personal data is recognised, so it is hidden where the
    caption has any.
    """
    captions = [each for each in diff.samples if each.change is DataChange.CAPTIONS]
    private = {each.sample for each in captions if redact(each.before, "en") != each.before}
    return replace(diff, samples=tuple(_shown(each, each.sample in private) for each in diff.samples))


def _shown(each: SampleDiff, is_private: bool) -> SampleDiff:
    if each.change not in _TEXTS:
        return each
    before, after = redact(each.before, "en"), redact(each.after, "en")
    if before == after or (each.change is DataChange.CONCEPT and is_private):
        before = HIDDEN
    return replace(each, before=before, after=after)
