"""What a fix does to which sample, decided before anything is written."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Callable, Collection, Iterable, Sequence
from dataclasses import dataclass

from clerestory.apps.data_fix.rules import RULE_OF, RULES, FixAction, FixRule, fixable
from clerestory.apps.data_fix.splits import close_leaks
from clerestory.core.errors import InputError
from clerestory.core.findings import finding_codes
from clerestory.core.sample import TEST, TEST_STYLE, TRAIN, VAL, Dataset, Sample
from clerestory.data.findings import num_left_out
from clerestory.stages.audit import image_findings as images
from clerestory.stages.audit.detection import Detection
from clerestory.store.acceptances import Acceptance, acceptance_state

_SPLIT_ORDER = (TRAIN, TEST, VAL, TEST_STYLE, "")  # which of several copies stays: see ``splits``
_COPIES = (images.EXACT_COPIES, images.NEAR_DUPLICATES, images.CROPS, images.LEAKAGE)


@dataclass(frozen=True, slots=True)
class SampleFix:
    """What happens to one sample because of one finding.

    Attributes:
        sample: its id.
        code: of the finding.
        action: what happens.
        because: the id of the sample that it is a copy of, or of one whose concept it shares; empty if it stands alone.
    """

    sample: str
    code: str
    action: FixAction
    because: str = ""


@dataclass(frozen=True, slots=True)
class ProposedFix:
    """A fix that needs the judgement of a person.

    Attributes:
        rule: the fix.
        samples: how many samples the finding concerns.
    """

    rule: FixRule
    samples: int


@dataclass(frozen=True, slots=True)
class FixPlan:
    """Everything that will be done to a dataset.

    Attributes:
        fixes: by sample; a sample that is dropped has only the fixes that drop it.
        proposed: the fixes that are left to a person.
        accepted: codes of findings with a fix that a person accepted, so that nothing is done.
        left_out: rows and images that the source has and the dataset has not, such as unreadable images.
    """

    fixes: tuple[SampleFix, ...]
    proposed: tuple[ProposedFix, ...] = ()
    accepted: tuple[str, ...] = ()
    left_out: int = 0

    def counts(self) -> Counter[tuple[str, FixAction]]:
        """How many samples each fix concerns, by the code of the finding."""
        return Counter((fix.code, fix.action) for fix in self.fixes)

    def by_sample(self) -> dict[str, list[SampleFix]]:
        """The fixes of each sample."""
        found: defaultdict[str, list[SampleFix]] = defaultdict(list)
        for fix in self.fixes:
            found[fix.sample].append(fix)
        return dict(found)


def make_plan(
    data: Dataset,
    detections: Sequence[Detection],
    pixels: Callable[[], dict[str, int]],
    only: Sequence[str] = (),
    given: Sequence[Acceptance] = (),
) -> FixPlan:
    """Decide what to do about the findings of an audit.

    Args:
        data: the dataset that was audited.
        detections: what the audit found.
        pixels: returns the number of pixels of each image by the id of its sample; of copies the largest stays.
        only: codes of the findings to fix; those that need no judgement if empty.
        given: acceptances of findings of this dataset; accepted samples stay as they are.

    Raises:
        NotFound, InputError: a code does not exist or has no fix, or the audit has no such finding.
    """
    chosen = {fixable(code) for code in only} or {rule.code.code for rule in RULES if rule.is_automatic}
    concerned, accepted = _open_samples(detections, given)
    for code in sorted(chosen) if only else ():
        if not any(detection.code.code == code for detection in detections):
            known = ", ".join(sorted({d.code.code for d in detections} & RULE_OF.keys())) or "none with a fix"
            title = finding_codes()[code].title
            raise InputError(f"the audit of {data.name} has no finding {code} ({title})", f"it has {known}")
    planner = _Planner(data, detections, concerned, pixels)
    for rule in RULES:
        if rule.code.code in chosen and concerned.get(rule.code.code):
            planner.add(rule)
    proposed = tuple(
        ProposedFix(rule, len(concerned[rule.code.code]))
        for rule in RULES
        if rule.code.code not in chosen and concerned.get(rule.code.code)
    )
    return FixPlan(planner.fixes(), proposed, tuple(sorted(accepted)), num_left_out(data.findings))


def _open_samples(
    detections: Sequence[Detection], given: Sequence[Acceptance]
) -> tuple[dict[str, list[str]], set[str]]:
    """The samples that each code with a fix concerns and that nobody accepted; and the codes that are accepted."""
    samples: defaultdict[str, dict[str, None]] = defaultdict(dict)
    for detection in detections:
        samples[detection.code.code].update(dict.fromkeys(detection.samples))
    concerned: dict[str, list[str]] = {}
    accepted = set()
    for code, own in samples.items():
        state = acceptance_state(given, code, list(own), len(own))
        concerned[code] = list(state.open)
        if state.is_accepted and code in RULE_OF:
            accepted.add(code)
    return concerned, accepted


class _Planner:
    """Collects fixes in the order of the rules: a dropped sample is not a copy of anything."""

    def __init__(
        self,
        data: Dataset,
        detections: Sequence[Detection],
        concerned: dict[str, list[str]],
        pixels: Callable[[], dict[str, int]],
    ) -> None:
        self._data, self._concerned, self._pixels = data, concerned, pixels
        self._groups: defaultdict[str, list[tuple[str, ...]]] = defaultdict(list)
        for detection in detections:
            self._groups[detection.code.code] += detection.groups
        self._found: list[SampleFix] = []
        self._leakage: FixRule | None = None
        self._dropped: dict[str, None] = {}

    def add(self, rule: FixRule) -> None:
        """Decide about the samples of one kind of finding."""
        code = rule.code.code
        if rule.code == images.LEAKAGE:
            self._leakage = rule  # last: what is dropped does not leak
        elif rule.keeps_one:
            for sample, kept in self._surplus(rule):
                self._drop(sample, code, kept)
        elif rule.action is FixAction.DROP:
            for sample in self._concerned[code]:
                self._drop(sample, code)
        else:
            self._found += [SampleFix(sample, code, rule.action) for sample in self._concerned[code]]

    def fixes(self) -> tuple[SampleFix, ...]:
        """All fixes, in the order of the samples."""
        if self._leakage is not None:
            code = self._leakage.code.code
            groups = [group for each in _COPIES for group in self._groups[each.code]]
            moved, dropped = close_leaks(self._data, groups, self._concerned[code], self._dropped)
            self._found += [SampleFix(sample, code, FixAction.MOVE, why) for sample, why in moved.items()]
            for sample, why in dropped.items():
                self._drop(sample, code, why)
        kept = [fix for fix in self._found if fix.sample not in self._dropped or fix.action is FixAction.DROP]
        order = [rule.code.code for rule in RULES]
        return tuple(sorted(kept, key=lambda fix: (fix.sample, order.index(fix.code))))

    def _drop(self, sample: str, code: str, because: str = "") -> None:
        self._found.append(SampleFix(sample, code, FixAction.DROP, because))
        self._dropped[sample] = None

    def _surplus(self, rule: FixRule) -> Iterable[tuple[str, str]]:
        """The samples of groups of copies that are dropped, each with the one that stays.

        A sample whose finding is accepted stays in any case.
        """
        pixels = self._pixels() if rule.code != images.EXACT_COPIES else {}
        concerned = set(self._concerned[rule.code.code])
        for group in self._groups[rule.code.code]:
            present = [id for id in group if id not in self._dropped]
            if len(present) < 2:
                continue
            kept = min(present, key=lambda id: _rank(self._data[id], pixels, concerned))
            yield from ((id, kept) for id in present if id != kept and id in concerned)


def _rank(sample: Sample, pixels: dict[str, int], concerned: Collection[str]) -> tuple[object, ...]:
    """Of several copies the first one stays: accepted, then by split, size, number of captions, licence, and id."""
    split = _SPLIT_ORDER.index(sample.split) if sample.split in _SPLIT_ORDER else len(_SPLIT_ORDER)
    size, captions = -pixels.get(sample.id, 0), -len(sample.captions)
    return sample.id in concerned, split, size, captions, not sample.licence, sample.id
