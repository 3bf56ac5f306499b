"""What the rest of Clerestory needs to know about comparison."""

from clerestory.core.codec import Tags
from clerestory.core.stage import StageSpec

SPEC = StageSpec(
    kind="compare",
    label="comparison",
    verb="compare",
    verb_past="compared",
    help="Compare two models sample by sample.",
    order=50,
    code_layers=("core", "stats", "stages/compare"),
    command="clerestory compare {model} {reference}{data}",
    exports=Tags(
        compare="clerestory.stages.compare:compare",
        CompareConfig="clerestory.stages.compare:CompareConfig",
    ),
)
