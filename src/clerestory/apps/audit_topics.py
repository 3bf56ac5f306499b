"""The parts of an audit in plain words: their checks, why they matter, and the limits of the audit."""

from __future__ import annotations

from dataclasses import dataclass

from clerestory.core.findings import FindingCode
from clerestory.core.sample import TRAIN, Dataset
from clerestory.stages.audit import caption_findings as captions
from clerestory.stages.audit import content_findings as content
from clerestory.stages.audit import group_findings as groups
from clerestory.stages.audit import image_findings as images
from clerestory.stages.audit import licence_findings as licences
from clerestory.stages.audit import pack_findings as packs
from clerestory.stages.audit import personal_findings as personal
from clerestory.stages.audit.corrected_scores import CONTAMINATED, LEAKED


@dataclass(frozen=True, slots=True)
class AuditTopic:
    """Checks that belong together.

    Attributes:
        title: such as ``Copies``.
        what: its checks.
        why: why it matters.
        codes: of its findings.
    """

    title: str
    what: str
    why: str
    codes: tuple[FindingCode, ...]


COPY_CODES = (
    images.EXACT_COPIES,
    images.NEAR_DUPLICATES,
    images.CROPS,
    images.COMPARISONS_LEFT_OUT,
    images.SIMILAR_EMBEDDINGS,
)
LOCATION_CODES = (images.GPS, images.EXIF)
QUALITY_CODES = tuple(code for code in images.IMAGE_CODES if code not in (*COPY_CODES, *LOCATION_CODES, images.LEAKAGE))
IMAGES = AuditTopic(
    "Image quality",
    "tiny, very large, oddly shaped, blank, blurred and dark images; file formats, animations, transparency",
    "A model learns little from an image on which there is little to see, and may learn something wrong.",
    QUALITY_CODES,
)
COPIES = AuditTopic(
    "Copies",
    "the same image again: exactly, saved again, scaled, flipped, turned, cropped or with a bar added",
    "An image that is there several times counts several times, in training and in every score.",
    COPY_CODES,
)
LEAKAGE = AuditTopic(
    "Training images in the test",
    "copies of training images among the evaluation images (leakage)",
    "A model recognises what it has been trained on, so a score on these images is better than the model is.",
    (images.LEAKAGE,),
)
CONTAMINATION = AuditTopic(
    "Images of other data sets",
    "images and captions of the hash packs that were given, such as those of public benchmarks (contamination)",
    "A model that was trained on a benchmark gets a better score on it than it deserves.",
    packs.CODES,
)
CAPTIONS = AuditTopic(
    "Captions",
    "missing, one word only, boilerplate, markup, another language, repeated, too long, damaged characters",
    "A model learns what the captions say, so wrong or empty words make it worse.",
    captions.CODES,
)
GROUPS = AuditTopic(
    "Groups and classes",
    "groups with very few images, without a value or in one split only; labels that are probably wrong; classes that "
    "can be predicted from the files or the borders of the images (shortcuts)",
    "A model is worse where it has seen little, learns wrong labels, and takes the easiest way to tell classes apart.",
    groups.CODES,
)
PERSONAL_DATA = AuditTopic(
    "Personal data",
    "e-mail addresses, phone, card and bank account numbers in captions; places and camera data in image files",
    "Data about people needs a legal basis, and a model can repeat what it has seen.",
    (*LOCATION_CODES, *personal.CODES),
)
PEOPLE = AuditTopic(
    "People in the images",
    "e-mail addresses, phone, card and bank account numbers in the text of images; faces; images that are mostly text",
    "An image can show more about people than its caption says, and a model that reads can repeat it.",
    content.CODES,
)
LICENCES = AuditTopic(
    "Licences",
    "the recorded licence of every image, under the policy that was set",
    "Whoever uses the images, or what is made from them, needs the permission of their owners and has to meet its "
    "conditions.",
    licences.LICENCE_CODES,
)
SOURCE = AuditTopic(
    "Reading the data",
    "files, tables and rows that could not be used, or not as they are",
    "What was left out is missing from everything that is made from this data.",
    (),  # of the data source
)
TOPICS = (IMAGES, COPIES, LEAKAGE, CONTAMINATION, CAPTIONS, GROUPS, PERSONAL_DATA, PEOPLE, LICENCES, SOURCE)


# Samples that a corrected score leaves out, by cause.
LEFT_OUT_SAMPLES = {LEAKED: "the leaked images", CONTAMINATED: "the images of hash packs"}


def topic_of(code: str) -> AuditTopic:
    """The topic of a finding."""
    return next((topic for topic in TOPICS if any(code == each.code for each in topic.codes)), SOURCE)


def not_applicable(topic: AuditTopic, data: Dataset, has_packs: bool = False, has_content: bool = False) -> str:
    """Why there is nothing to check; empty if there is.

    Args:
        topic: the checks.
        data: the dataset.
        has_packs: whether hash packs were given.
        has_content: whether text or faces were looked for in images.
    """
    if topic is CONTAMINATION and not has_packs:
        return "no hash pack was given"
    if topic is PEOPLE and not has_content:
        return "not requested (--ocr, --faces)"
    if topic is CAPTIONS and not any(sample.captions for sample in data):
        return "no captions"
    if topic is GROUPS and not any(sample.groups or sample.concept for sample in data):
        return "no groups"
    splits = {sample.split for sample in data if sample.split}
    if topic is LEAKAGE and (TRAIN not in splits or len(splits) < 2):
        return (
            "no splits"
            if not splits
            else f"only {', '.join(sorted(splits))}"
            if TRAIN in splits
            else "no training split"
        )
    return ""


def unchecked(
    captions_matched: bool,
    has_packs: bool = False,
    text_images: int = 0,
    face_images: int = 0,
    labels_checked: bool = False,
) -> list[str]:
    """What an audit does not look for, in sentences.

    Args:
        captions_matched: whether captions were compared with their images by the embeddings of a model.
        has_packs: whether images were compared with hash packs.
        text_images: the images whose text was read.
        face_images: the images in which faces were looked for.
        labels_checked: whether the labels of classes were checked by the embeddings of a model.
    """
    lines = []
    if not captions_matched:
        lines.append("Whether each caption fits its image; with --model photos it is checked.")
    if not labels_checked:
        lines.append("Whether the label of each image is right; of data with classes, --model photos checks it.")
    if not text_images:
        lines.append("Writing in the images, such as name plates and documents; with --ocr it is read.")
    else:
        lines.append("Names of people in the writing of images, and writing by hand or too small to read.")
    if not face_images:
        lines.append("Faces in the images; with --faces those that look at the camera are found.")
    else:
        lines.append("People whose face is turned away, covered or small.")
    return [
        *lines,
        "Names and addresses of people in captions, and phone numbers that are written in an unusual way.",
        "Whether what images and captions say is true, fair or harmless.",
        "Copies of images of data sets other than those of the hash packs."
        if has_packs
        else "Copies of images that are not in this data set, such as those of public benchmarks.",
        "Whether a recorded licence is the right one.",
    ]
