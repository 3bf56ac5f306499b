"""What the rest of Clerestory needs to know about the check of a model's licences."""

from clerestory.core.codec import Tags
from clerestory.core.stage import StageSpec

SPEC = StageSpec(
    kind="licences",
    label="licence check",
    verb_past="checked for licences",
    order=55,
    code_layers=(
        "core",
        "report/provenance",
        "report/licence_chain",
        "stages/licences",
    ),
    gate_kinds=("licences",),
    command="clerestory release licences {model}",
    config="clerestory.stages.licences.config:LicencesConfig",
    exports=Tags(
        check_model_licences="clerestory.stages.licences.run:check_model_licences",
        LicencesConfig="clerestory.stages.licences.config:LicencesConfig",
    ),
    findings="clerestory.stages.licences.findings:CODES",
)
