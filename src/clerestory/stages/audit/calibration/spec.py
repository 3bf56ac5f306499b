"""What the rest of Clerestory needs to know about the calibration of the audit."""

from clerestory.core.codec import Tags
from clerestory.core.stage import StageSpec

SPEC = StageSpec(
    kind="audit_calibration",
    label="calibration of the audit",
    verb_past="calibrated",
    order=6,
    code_layers=("core", "data", "stats", "models/languages", "stages/audit"),
    command="clerestory data audit{data} --calibrate",
    config="clerestory.stages.audit.calibration.config:CalibrationConfig",
    exports=Tags(calibrate="clerestory.stages.audit.calibration.run:calibrate"),
)
