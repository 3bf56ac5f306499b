"""Croissant metadata of a dataset (MLCommons, 1.0 or 1.1) with the RAI vocabulary filled from measurements.

https://docs.mlcommons.org/croissant/docs/croissant-spec.html. Two tables lie beside it, so that its records can be read
offline: the samples, with the digest of each image, and the captions. Images are not copied.
"""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Iterable, Sequence
from typing import Any, Literal, get_args

from clerestory.apps.data_documents.record import DatasetRecord, biases, limitations, personal_information
from clerestory.core.digest import digest_bytes
from clerestory.core.errors import ConfigError
from clerestory.core.sample import Caption, Dataset
from clerestory.report import format
from clerestory.stages.audit.personal_data import redact

CroissantVersion = Literal["1.0", "1.1"]
VERSIONS: tuple[CroissantVersion, ...] = get_args(CroissantVersion)
METADATA, SAMPLES, CAPTIONS = "croissant.json", "samples.csv", "captions.csv"
SAMPLE_COLUMNS = {
    "id": "id of the sample, unique in the dataset",
    "image": "SHA-256 of the encoded bytes of the image",
    "split": "train, val, test or test_style; empty without splits",
    "licence": "SPDX expression; empty when unknown",
    "source": "where the image comes from",
    "concept": "what the image shows; samples with the same concept are on the same side of a split",
    "groups": "name=value pairs, separated by commas",
}
CAPTION_COLUMNS = {
    "sample": "id of the sample",
    "number": "position among the captions of the sample, from 1",
    "caption": "the text",
    "language": "BCP 47 tag",
    "kind": "name (a caption of the image) or keyword (a search term)",
}
_NUMBERS = {"number"}
_CONTEXT: dict[str, Any] = {
    "@language": "en",
    "@vocab": "https://schema.org/",
    "cr": "http://mlcommons.org/croissant/",
    "dct": "http://purl.org/dc/terms/",
    "rai": "http://mlcommons.org/croissant/RAI/",
    "sc": "https://schema.org/",
    "data": {"@id": "cr:data", "@type": "@json"},
    "dataType": {"@id": "cr:dataType", "@type": "@vocab"},
    "examples": {"@id": "cr:examples", "@type": "@json"},
    "conformsTo": "dct:conformsTo",
    **{
        name: f"cr:{name}"
        for name in (
            "citeAs", "column", "equivalentProperty", "extract", "field", "fileObject", "fileProperty", "fileSet",
            "format", "includes", "isLiveDataset", "jsonPath", "key", "md5", "parentField", "path", "recordSet",
            "references", "regex", "repeated", "replace", "samplingRate", "separator", "source", "subField",
            "transform",
        )
    },
}  # fmt: skip
_CONTEXT_1_1 = {
    **_CONTEXT,
    **{name: f"cr:{name}" for name in ("arrayShape", "containedIn", "isArray")},
    "description": {"@container": "@language"},
    "name": {"@container": "@language"},
}


def croissant(
    data: Dataset,
    record: DatasetRecord,
    version: CroissantVersion = "1.0",
    *,
    url: str = "",
    creator: str = "",
    with_personal_data: bool = False,
) -> dict[str, bytes]:
    """The metadata and the two tables, by file name.

    Args:
        data: the dataset.
        record: its record.
        version: of Croissant.
        url: where the dataset is published; a name made of its digest by default.
        creator: the person or organisation that made it; who brought it into the store by default.
        with_personal_data: keep personal data in the tables, in place of ``[email]`` and other placeholders.

    Raises:
        ConfigError: another version.
    """
    if version not in VERSIONS:
        raise ConfigError(f"the version of Croissant is {version!r}", f"choose {' or '.join(VERSIONS)}")
    tables = {SAMPLES: _samples(data, with_personal_data), CAPTIONS: _captions(data, with_personal_data)}
    content = _metadata(record, tables, version, url, creator)
    text = json.dumps(content, indent=1, ensure_ascii=False)
    return {METADATA: text.encode(), **tables}


def _metadata(
    record: DatasetRecord, tables: dict[str, bytes], version: CroissantVersion, url: str, creator: str
) -> dict[str, Any]:
    summary = record.summary
    maker = creator or record.added_by
    described: dict[str, Any] = {
        "@context": _CONTEXT if version == "1.0" else _CONTEXT_1_1,
        "@type": "sc:Dataset",
        "conformsTo": [f"http://mlcommons.org/croissant/{version}", "http://mlcommons.org/croissant/RAI/1.0"],
        "name": summary.name,
        "description": description(record),
        "license": list(record.licences) or ["unknown"],
        "url": url or f"urn:sha256:{summary.digest}",
        "version": f"0.0.0+{summary.digest[:12]}",
        "citeAs": f"{summary.name}, {summary.size:,} images, SHA-256 {summary.digest}",
        "inLanguage": list(summary.languages),
        "distribution": [_file(name, content) for name, content in tables.items()],
        "recordSet": [
            _record_set("samples", SAMPLES, SAMPLE_COLUMNS, "id"),
            _record_set("captions", CAPTIONS, CAPTION_COLUMNS, ""),
        ],
        "rai:dataBiases": biases(record),
        "rai:dataLimitations": limitations(record),
        "rai:personalSensitiveInformation": personal_information(record),
    }
    if maker:
        described["creator"] = {"@type": "sc:Person", "name": maker}
    if record.added:
        described["datePublished"] = record.added[:10]
    if record.sources or record.source:
        described["rai:dataCollection"] = collection(record)
    return described


def description(record: DatasetRecord) -> str:
    """One sentence about the dataset with its sizes and its digest."""
    summary = record.summary
    splits = format.listing([f"{each.name} {each.images:,}" for each in summary.splits])
    return (
        f"{summary.size:,} images with {summary.captions:,} captions"
        + (f" in {format.listing(summary.languages)}" if summary.languages else "")
        + (f"; splits: {splits}" if splits else "")
        + f". Digest of all samples: {summary.digest}."
    )


def collection(record: DatasetRecord) -> str:
    """Where the images come from, and who brought them in."""
    parts = []
    if record.source:
        parts.append(f"Read from {record.source}" + (f" by {record.added_by}" if record.added_by else ""))
    named = [f"{source} ({images:,})" for source, images in record.sources[:5]]
    more = record.num_sources - len(named)
    if named:
        others = f" and {more:,} more" if more > 0 else ""
        parts.append(f"sources of images: {', '.join(named)}{others}")
    return format.sentence("; ".join(parts))


def _file(name: str, content: bytes) -> dict[str, Any]:
    return {
        "@type": "cr:FileObject",
        "@id": name,
        "name": name,
        "contentUrl": name,
        "contentSize": f"{len(content)} B",
        "encodingFormat": "text/csv",
        "sha256": digest_bytes(content),
    }


def _record_set(name: str, file: str, columns: dict[str, str], key: str) -> dict[str, Any]:
    fields = [
        {
            "@type": "cr:Field",
            "@id": f"{name}/{column}",
            "name": column,
            "description": text,
            "dataType": "sc:Integer" if column in _NUMBERS else "sc:Text",
            "source": {"fileObject": {"@id": file}, "extract": {"column": column}},
        }
        for column, text in columns.items()
    ]
    if name == "captions":
        fields[0]["references"] = {"field": {"@id": "samples/id"}}
    record_set: dict[str, Any] = {"@type": "cr:RecordSet", "@id": name, "name": name, "field": fields}
    return record_set | ({"key": {"@id": f"{name}/{key}"}} if key else {})


def _samples(data: Dataset, with_personal_data: bool) -> bytes:
    hide = str if with_personal_data else redact
    return _csv(
        list(SAMPLE_COLUMNS),
        ((hide(s.id), s.image, s.split, s.licence, hide(s.source), hide(s.concept), hide(str(s.groups))) for s in data),
    )


def _captions(data: Dataset, with_personal_data: bool) -> bytes:
    def text_of(caption: Caption) -> str:
        return caption.text if with_personal_data else redact(caption.text, caption.lang)

    hide = str if with_personal_data else redact
    return _csv(
        list(CAPTION_COLUMNS),
        (
            (hide(sample.id), number, text_of(caption), caption.lang, caption.kind)
            for sample in data
            for number, caption in enumerate(sample.captions, start=1)
        ),
    )


def _csv(head: Sequence[str], rows: Iterable[Sequence[object]]) -> bytes:
    out = io.StringIO()
    writer = csv.writer(out, lineterminator="\n")
    writer.writerow(head)
    writer.writerows(rows)
    return out.getvalue().encode()
