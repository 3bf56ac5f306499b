"""What the rest of Clerestory needs to know about the self-test of the gates."""

from clerestory.core.codec import Tags
from clerestory.core.stage import StageSpec

SPEC = StageSpec(
    kind="self_test",
    label="self-test",
    verb_past="self-tested",
    order=45,
    code_layers=("core", "data", "models", "stats", "stages/evaluate"),
    command="clerestory evaluate {model}{data} --self-test",
    exports=Tags(
        self_test="clerestory.stages.evaluate.selftest:self_test",
        SelfTestConfig="clerestory.stages.evaluate.selftest:SelfTestConfig",
    ),
)
