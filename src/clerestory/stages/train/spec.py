"""What the rest of Clerestory needs to know about training."""

from clerestory.core.codec import Tags
from clerestory.core.stage import StageSpec

SPEC = StageSpec(
    kind="train",
    label="training",
    verb="train",
    verb_past="trained",
    help="Train a model; an interrupted run resumes where it stopped.",
    order=20,
    code_layers=("core", "data", "models", "stages/train"),
    code_excluded=("stages/train/tune",),
    gate_kinds=("train",),
    command="clerestory train{data}",
    presets=("nano", "small"),
    exports=Tags(
        train="clerestory.stages.train:train",
        TrainConfig="clerestory.stages.train:TrainConfig",
    ),
    findings="clerestory.stages.train.findings:CODES",
)
