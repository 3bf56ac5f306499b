"""All finding codes of an audit."""

from clerestory.stages.audit.caption_findings import CODES as CAPTION_CODES
from clerestory.stages.audit.content_findings import CODES as CONTENT_CODES
from clerestory.stages.audit.group_findings import CODES as GROUP_CODES
from clerestory.stages.audit.image_findings import IMAGE_CODES
from clerestory.stages.audit.licence_findings import LICENCE_CODES
from clerestory.stages.audit.pack_findings import CODES as PACK_CODES
from clerestory.stages.audit.personal_findings import CODES as PERSONAL_CODES

CODES = (
    *(*IMAGE_CODES, *CAPTION_CODES, *PERSONAL_CODES, *GROUP_CODES),
    *(*LICENCE_CODES, *PACK_CODES, *CONTENT_CODES),
)
