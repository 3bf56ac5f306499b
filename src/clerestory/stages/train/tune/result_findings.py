"""Findings about the result of a fine-tuning, besides those of the forgetting monitor."""

from __future__ import annotations

from clerestory.core.evidence import Finding
from clerestory.stages.train.findings import shared_captions_finding
from clerestory.stages.train.tune import findings
from clerestory.stages.train.tune.caption_pairs import CaptionPairs
from clerestory.stages.train.tune.evidence import AFTER, BEFORE, NEW, RETENTION, ScoreTable
from clerestory.stages.train.tune.interpolation import InterpolationCurve
from clerestory.stages.train.tune.trainable import TrainableModel
from clerestory.stats.paired import paired_difference


def result_findings(
    model: TrainableModel, table: ScoreTable, train: CaptionPairs, curve: InterpolationCurve
) -> tuple[Finding, ...]:
    """Findings about the chosen weights, the gain, the retention set and the model's other abilities."""
    candidates = (
        shared_captions_finding(train.shared(), len(train)),
        _interpolated(table, curve),
        _gain(table),
        _overlap(train, table.sets[RETENTION]),
        _decoder(model),
    )
    return tuple(finding for finding in candidates if finding is not None)


def _interpolated(table: ScoreTable, curve: InterpolationCurve) -> Finding | None:
    if curve.alpha == 1.0:
        return None
    retention = table.mean(RETENTION, AFTER) / max(table.mean(RETENTION, BEFORE), 1e-9)
    if curve.alpha == 0.0:
        return findings.INTERPOLATED_WEIGHTS.finding(
            "weights",
            "no interpolation with the tuned weights meets the minimum retention and improves the new images; the "
            "result is the original model",
            severity="warning",
            state="warn",
            alpha=curve.alpha,
            retention=retention,
        )
    return findings.INTERPOLATED_WEIGHTS.finding(
        "weights",
        f"the weights are interpolated with alpha {curve.alpha:g} between the original (0) and the tuned ones (1); "
        f"retention is {retention:.0%}. The tuned weights alone retained too little or were worse on the new images",
        alpha=curve.alpha,
        retention=retention,
    )


def _gain(table: ScoreTable) -> Finding | None:
    if NEW not in table.sets:
        return findings.GAIN_NOT_SHOWN.finding(
            "new images",
            "the data has no captioned images in the split val, so the gain was not measured",
            fix="assign some images to the split val, or run clerestory evaluate on other images",
            state="not_run",
        )
    gain = paired_difference(table.scores[NEW, AFTER], table.scores[NEW, BEFORE], table.sets[NEW].groups_N)
    if gain.interval is not None and gain.interval.low > 0:
        return None
    interval = f" ({gain.interval.low:+.3f} to {gain.interval.high:+.3f})" if gain.interval else ""
    return findings.GAIN_NOT_SHOWN.finding(
        "new images",
        f"the gain on the new images is {gain.value:+.3f}{interval} over {gain.n} images, not significantly above 0",
        count=gain.n,
        gain=gain.value,
    )


def _overlap(train: CaptionPairs, retention: CaptionPairs) -> Finding | None:
    trained_on = {sample.image for sample in train.samples}
    overlap = sum(sample.image in trained_on for sample in retention.samples)
    if not overlap:
        return None
    return findings.RETENTION_OVERLAP.finding(
        "retention set",
        f"{overlap} of {len(retention)} retention images are also training images, so the retention is overestimated",
        count=overlap,
        retention_samples=len(retention),
    )


def _decoder(model: TrainableModel) -> Finding | None:
    if model.kind != "clerestory" or not any(name.startswith("image_tower.") for name in model.trained):
        return None
    return findings.DECODER_NOT_TUNED.finding(
        "captions", "the image tower was fine-tuned, but the caption decoder that reads it was not"
    )
