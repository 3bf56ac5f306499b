"""What else is worth telling about a fine-tuning, besides what the guard saw."""

from __future__ import annotations

from clerestory.core.evidence import Finding
from clerestory.stages.train.tune.caption_pairs import Pairs
from clerestory.stages.train.tune.evidence import AFTER, BEFORE, NEW, RETENTION, Sheet
from clerestory.stages.train.tune.interpolation import Curve
from clerestory.stages.train.tune.trainable import Student
from clerestory.stats.paired import paired_difference


def noticed(student: Student, sheet: Sheet, learnt: Pairs, held: Pairs, curve: Curve) -> tuple[Finding, ...]:
    """Findings about the chosen weights, the gain, the retention set and the model's other abilities."""
    found = (_blended(sheet, curve), _gained(sheet), _overlap(learnt, held), _captions(student))
    return tuple(finding for finding in found if finding is not None)


def _blended(sheet: Sheet, curve: Curve) -> Finding | None:
    if curve.alpha == 1.0:
        return None
    kept = sheet.mean(RETENTION, AFTER) / max(sheet.mean(RETENTION, BEFORE), 1e-9)
    message = (
        f"the weights are {curve.alpha:g} of the way from the original to the tuned ones, which keeps {kept:.0%} of "
        "what it knew; the tuned ones themselves would have kept too little or served the new pictures less"
    )
    if curve.alpha == 0.0:
        message = "no blend with the tuned weights keeps enough or helps the new pictures: the model is the original"
    fix = "look at the curve (alpha) in the evidence; lower learning_rate to go further at the same loss"
    severity, state = ("info", "pass") if curve.alpha else ("warning", "warn")
    return Finding("CLR-T043", severity, state, "weights", message, fix)  # type: ignore[arg-type]  # two of their values


def _gained(sheet: Sheet) -> Finding | None:
    if NEW not in sheet.sets:
        message = "the data has no split val with captions, so what the fine-tuning gained was not measured"
        fix = "give some pictures the split val, or measure with clerestory evaluate on other pictures"
        return Finding("CLR-T044", "warning", "not_run", "new pictures", message, fix)
    gain = paired_difference(sheet.scores[NEW, AFTER], sheet.scores[NEW, BEFORE], sheet.sets[NEW].groups_N)
    if gain.interval is not None and gain.interval.low > 0:
        return None
    span = f" ({gain.interval.low:+.3f} to {gain.interval.high:+.3f})" if gain.interval else ""
    message = f"a gain on the new pictures is not shown: {gain.value:+.3f}{span} over {gain.n} pictures"
    return Finding(
        "CLR-T044", "warning", "warn", "new pictures", message, "train for longer, on more pictures, or unlock a tower"
    )


def _overlap(learnt: Pairs, held: Pairs) -> Finding | None:
    seen = {sample.image for sample in learnt.samples}
    both = sum(sample.image in seen for sample in held.samples)
    if not both:
        return None
    message = f"{both} of {len(held)} retention pictures are also learnt from, so what is kept looks too good"
    return Finding("CLR-T045", "warning", "fail", "retention set", message, "choose another one with --retain")


def _captions(student: Student) -> Finding | None:
    if student.kind != "own" or not any(name.startswith("image_tower.") for name in student.trained):
        return None
    message = "the part that writes descriptions was not trained along with the picture tower it reads"
    fix = "measure the descriptions with clerestory evaluate before you use them"
    return Finding("CLR-T046", "warning", "warn", "descriptions", message, fix)
