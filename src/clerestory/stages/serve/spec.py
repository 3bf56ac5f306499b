"""What the rest of Clerestory needs to know about serving."""

from clerestory.core.stage import StageSpec

SPEC = StageSpec(
    kind="serve",
    label="service",
    verb_past="served",
    help="Open the pages and the HTTP API on this computer.",
    order=70,
)
