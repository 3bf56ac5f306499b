"""The finding codes of images and their copies."""

from clerestory.core.findings import FindingCode

TINY = FindingCode("CLR-A001", "warning", "tiny images", fix="replace them with larger ones, or remove them")
VERY_LARGE = FindingCode(
    "CLR-A002", "info", "very large images", fix="make them smaller, which makes every later step faster"
)
ODD_ASPECT = FindingCode(
    "CLR-A003",
    "info",
    "very long or very wide images",
    fix="crop them; a model sees a square, with the image small in it",
)
BLANK = FindingCode("CLR-A004", "warning", "blank images", fix="remove them, or replace them with the intended images")
BLURRED = FindingCode("CLR-A005", "warning", "blurred images", fix="look at them, and remove those that show nothing")
DARK = FindingCode("CLR-A006", "warning", "dark images", fix="look at them, and remove those that show nothing")
WRONG_EXTENSION = FindingCode(
    "CLR-A007", "info", "file extension of another format", fix="rename the files to the format that they have"
)
ANIMATED = FindingCode(
    "CLR-A008", "warning", "animated images", fix="check that the first frame, which is the one used, shows the caption"
)
CMYK = FindingCode(
    "CLR-A009", "info", "CMYK images", fix="convert them to RGB; viewers differ in the colours they show"
)
TRANSPARENT = FindingCode(
    "CLR-A010", "info", "transparent images", "pass", "check that they are meant to be seen on white"
)
GPS = FindingCode(
    "CLR-A011", "error", "images with the place where they were taken", "fail", "remove the location from the files"
)
EXIF = FindingCode(
    "CLR-A012", "info", "images with camera metadata", "pass", "remove the metadata if the files are handed on"
)
UNREADABLE_NOW = FindingCode(
    "CLR-A013", "error", "images that can no longer be read", "fail", "restore the files, or add the data again"
)
EXACT_COPIES = FindingCode("CLR-A014", "warning", "exact copies", fix="keep one of each group")
NEAR_DUPLICATES = FindingCode("CLR-A015", "warning", "near-duplicates", fix="keep one of each group, or the best one")
CROPS = FindingCode("CLR-A016", "warning", "crops and framed copies", fix="keep one of each group")
LEAKAGE = FindingCode(
    "CLR-A017",
    "error",
    "images of an evaluation split that are also in the training split",
    "fail",
    "move each group of copies to one split",
)
COMPARISONS_LEFT_OUT = FindingCode(
    "CLR-A018", "info", "comparisons left out", "not_run", "audit fewer images at a time to compare all of them"
)
SIMILAR_EMBEDDINGS = FindingCode(
    "CLR-A019",
    "info",
    "images with similar embeddings",
    fix="look at them: whether they are copies depends on the model",
)

IMAGE_CODES = (
    TINY,
    VERY_LARGE,
    ODD_ASPECT,
    BLANK,
    BLURRED,
    DARK,
    WRONG_EXTENSION,
    ANIMATED,
    CMYK,
    TRANSPARENT,
    GPS,
    EXIF,
    UNREADABLE_NOW,
    EXACT_COPIES,
    NEAR_DUPLICATES,
    CROPS,
    LEAKAGE,
    COMPARISONS_LEFT_OUT,
    SIMILAR_EMBEDDINGS,
)
