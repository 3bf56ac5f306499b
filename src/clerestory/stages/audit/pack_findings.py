"""The finding codes of hash packs (``docs/reference/findings.md``)."""

from clerestory.core.findings import FindingCode

PACK_IMAGES = FindingCode(
    "CLR-A050",
    "error",
    "images of a hash pack",
    "fail",
    "remove them from the data that trains, or report scores without them",
)
PACK_CAPTIONS = FindingCode(
    "CLR-A051",
    "error",
    "captions of a hash pack",
    "fail",
    "remove them from the data that trains, or report scores without them",
)
PACK_NOT_COMPARED = FindingCode(
    "CLR-A052",
    "info",
    "samples that cannot be compared with a hash pack",
    "not_run",
    "compare them by hand if they matter",
)
CODES = (PACK_IMAGES, PACK_CAPTIONS, PACK_NOT_COMPARED)
