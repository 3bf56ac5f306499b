"""What the rest of Clerestory needs to know about governance."""

from clerestory.core.codec import Tags
from clerestory.core.stage import StageSpec

SPEC = StageSpec(
    kind="govern",
    label="governance",
    verb="govern",
    verb_past="governed",
    help="Answer NIST, ISO and EU AI Act requirements by evidence.",
    order=65,
    code_layers=("core", "store", "stages/govern"),
    command="clerestory govern {model}",
    exports=Tags(
        govern="clerestory.stages.govern.run:govern", GovernContext="clerestory.stages.govern.context:GovernContext"
    ),
    findings="clerestory.stages.govern.findings:CODES",
)
