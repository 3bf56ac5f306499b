"""What the rest of Clerestory needs to know about release."""

from clerestory.core.codec import Tags
from clerestory.core.stage import StageSpec

SPEC = StageSpec(
    kind="release",
    label="release",
    verb="release",
    verb_past="released",
    help="Decide, version, promote, roll back, verify.",
    order=60,
    exports=Tags(release="clerestory.stages.release"),
    findings="clerestory.stages.release.findings:CODES",
)
