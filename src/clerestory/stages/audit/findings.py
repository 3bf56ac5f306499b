"""All finding codes of an audit."""

from clerestory.stages.audit.image_findings import IMAGE_CODES

CODES = (*IMAGE_CODES,)
