"""How good the model's descriptions are."""

from __future__ import annotations

from clerestory.core.codec import Tags
from clerestory.core.digest import canonical
from clerestory.core.evidence import Recipe
from clerestory.stages.evaluate.context import EvaluationContext
from clerestory.stages.evaluate.shared.captioning import CAPTION, describe_split
from clerestory.stages.evaluate.shared.measures import kinds, scored
from clerestory.stages.evaluate.shared.row_builder import CLEAN
from clerestory.stages.evaluate.suite import NotApplicable, Suite, SuiteResult
from clerestory.stages.evaluate.suites.retrieval.examples import caption_examples
from clerestory.stats.aggregate import measure


def run(bench: EvaluationContext) -> SuiteResult:
    """One row per described picture."""
    config = bench.config
    if not config.caption_samples:
        raise NotApplicable("no picture is to be described", "set described to 72 or more")
    table, said = bench.table(), []
    for name in bench.splits:
        said += describe_split(bench, name, table)
    rows = table.columns()
    measured = []
    names = (
        ("chrf", "chrf"),
        (f"chrf_best_of_{config.captions_per_image}", "chrf_best"),
        ("cider", "cider"),
        ("clip_score", "clip_score"),
    )
    for where in kinds(rows, ("task", "split"), CAPTION):
        for name, column in names:
            if scored(rows, where, column):
                recipe = Recipe("mean", column, Tags(where, condition=CLEAN), "concept")
                measured.append(measure(rows, recipe, name, where))
    facts = {
        "chrf": f"chrF2 of the first suggestion, ignoring case, on at most {config.caption_samples} pictures per split",
        "cider": "CIDEr-D of the first suggestion, 0 to 10; words weighed by the captions of the whole split",
        "clip_score": "2.5 times the cosine of picture and description in the model's own space, so it judges itself",
    }
    return SuiteResult(rows, measured, [], facts, {"examples.captions": canonical(caption_examples(said))})


SUITE = Suite(
    name="captions",
    about="describing pictures in words",
    needs=("Describer",),
    settings=("described", "suggestions"),
    run=run,
)
