"""What the rest of Clerestory needs to know about the audit."""

from clerestory.core.codec import Tags
from clerestory.core.stage import StageSpec

SPEC = StageSpec(
    kind="audit",
    label="audit",
    verb_past="audited",
    order=5,
    code_layers=("core", "data", "stats", "models/languages", "stages/audit"),
    code_excluded=("stages/audit/calibration",),
    command="clerestory data audit{data}",
    config="clerestory.stages.audit.config:AuditConfig",
    exports=Tags(audit="clerestory.stages.audit.run:audit", AuditConfig="clerestory.stages.audit.config:AuditConfig"),
    findings="clerestory.stages.audit.findings:CODES",
)
