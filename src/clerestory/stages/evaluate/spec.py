"""What the rest of Clerestory needs to know about evaluation."""

from clerestory.core.codec import Tags
from clerestory.core.stage import StageSpec

SPEC = StageSpec(
    kind="evaluate",
    label="evaluation",
    verb="evaluate",
    verb_past="evaluated",
    help="Measure a model, every number with its interval.",
    order=40,
    code_layers=("core", "data", "models", "stats", "stages/evaluate"),
    gate_kinds=("evaluate",),
    command="clerestory evaluate {model}{data}",
    suites_measuring="clerestory.stages.evaluate.suites:suites_measuring",
    findings="clerestory.stages.evaluate.findings:CODES",
    exports=Tags(
        evaluate="clerestory.stages.evaluate:evaluate",
        EvaluateConfig="clerestory.stages.evaluate:EvaluateConfig",
    ),
)
SELF_TEST = StageSpec(
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
