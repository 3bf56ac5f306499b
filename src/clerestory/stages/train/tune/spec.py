"""What the rest of Clerestory needs to know about fine-tuning."""

from clerestory.core.codec import Tags
from clerestory.core.stage import StageSpec

SPEC = StageSpec(
    kind="tune",
    label="fine-tuning",
    verb="tune",
    verb_past="fine-tuned",
    help="Fine-tune an existing model, and see what it forgets.",
    order=30,
    code_layers=(
        *("core", "data", "models", "stats"),
        *("stages/train/tune", "stages/train/losses", "stages/train/checkpoint", "stages/train/shuffle"),
    ),
    command="clerestory tune {model}{data}",
    exports=Tags(
        tune="clerestory.stages.train.tune:tune",
        TuneConfig="clerestory.stages.train.tune:TuneConfig",
        tune_head="clerestory.stages.train.tune:tune_head",
    ),
    findings="clerestory.stages.train.tune.findings:CODES",
)
