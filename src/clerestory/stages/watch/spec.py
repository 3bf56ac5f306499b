"""What the rest of Clerestory needs to know about watching a model in service."""

from clerestory.core.stage import StageSpec

SPEC = StageSpec(
    kind="watch",
    label="watch",
    verb="watch",
    verb_past="watched",
    help="Watch a model in service: drift, feedback, incidents.",
    order=75,
)
