"""A model card of the Hugging Face hub: metadata that the hub reads (YAML), then the report as Markdown."""

from __future__ import annotations

import re

from huggingface_hub import EvalResult, ModelCardData

from clerestory.core.evidence import Measurement
from clerestory.report.model import ReportData
from clerestory.report.page import build
from clerestory.report.render import render_markdown

MAX_METRICS = 24
PLAIN_SLICE = {"task", "split"}  # the metrics of other slices (a style, a group) are in the text
LICENCE_SECTION = "see-what-it-was-made-from"
_HUB_ID = re.compile(r"[\w.-]+(/[\w.-]+)?", re.ASCII)  # other names are in the text only
TASKS = {
    "image_to_text": "image-to-text",
    "text_to_image": "text-to-image-retrieval",
    "zero_shot": "zero-shot-image-classification",
}


def model_card(data: ReportData) -> str:
    """The content of ``README.md`` for a model: every number is that of the report.

    The licence is ``other``, with a reference to the section that lists the licences of everything the model was made
    from: which one the model itself gets is decided by the person who publishes it.
    """
    results = _results(data)
    bases = [part.name for part in data.components if part.role == "base model" and part.name]
    metadata = ModelCardData(
        language=_languages(data) or None,
        license="other",
        license_name=LICENCE_SECTION,
        license_link="#what-it-was-made-from",
        library_name="clerestory",
        pipeline_tag="zero-shot-image-classification" if results else None,
        tags=["vision-language-model", "image-text-retrieval"],
        base_model=bases[0] if bases and _HUB_ID.fullmatch(bases[0]) else None,
        datasets=[
            part.name for part in data.components if part.role == "training data" and _HUB_ID.fullmatch(part.name)
        ]
        or None,
        model_name=(data.release.ref if data.release else data.ref) if results else None,
        eval_results=results or None,
    )
    return f"---\n{metadata.to_yaml()}\n---\n\n{render_markdown(build(data))}"


def _languages(data: ReportData) -> list[str]:
    """The languages of the captions that it was evaluated on."""
    recorded = (record.evidence.facts.text("retrieval.language") for record in data.evidence)
    return sorted({code for code in recorded if code})


def _results(data: ReportData) -> list[EvalResult]:
    """The main metrics of its evaluations."""
    name = data.data.name if data.data else "evaluation data"
    found = [
        (record.id, measurement)
        for record in data.evidence
        if record.evidence.kind == "evaluate"
        for measurement in record.evidence.measurements
        if {*measurement.slice} == PLAIN_SLICE
    ]
    return [_result(measurement, name, evidence) for evidence, measurement in found[:MAX_METRICS]]


def _result(measurement: Measurement, data: str, evidence: str) -> EvalResult:
    task = str(measurement.slice["task"])
    return EvalResult(
        task_type=TASKS.get(task, task.replace("_", "-")),
        dataset_type=data,
        dataset_name=data,
        dataset_split=str(measurement.slice["split"]),
        metric_type=measurement.name,
        metric_value=round(float(measurement.value), 6),
        metric_name=f"{measurement.name} ({task}), n = {measurement.n}, evidence {evidence[:12]}",
    )
