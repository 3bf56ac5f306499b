"""Annotations in one JSON file, as rows: COCO, Karpathy's splits, lists of records, and mappings from file names."""

from __future__ import annotations

import json
import posixpath
from collections import defaultdict
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from clerestory.core.errors import DataError
from clerestory.data.data_folder import IMAGE_SUFFIXES
from clerestory.data.findings import IncompleteRow

JsonRows = Iterator[tuple[str, dict[str, Any] | IncompleteRow]]


class NotJson(DataError):
    """A file is not one JSON value."""


# In Karpathy's splits of COCO, the rest of the original validation images, which everybody trains on.
RESTVAL = "restval"


def json_rows(path: Path) -> JsonRows:
    """The rows of a JSON file, each with its place in the file, and with the columns that ``Columns`` knows.

    Raises:
        NotJson: the file is not one JSON value.
        DataError: it cannot be read, or has none of the layouts.
    """
    try:
        data = json.loads(path.read_text(encoding="utf-8-sig"))
    except (OSError, UnicodeDecodeError, RecursionError) as error:
        raise DataError(f"{path} cannot be read as JSON: {error}", "save it again as UTF-8") from None
    except ValueError as error:
        raise NotJson(f"{path} is not valid JSON ({error})", "save it again") from None
    records = _records(data)
    if records is None:
        raise DataError(
            f"{path} is not a list of images with captions",
            'write objects such as {"image": "a.jpg", "caption": "a red bag"}, or use the layout of COCO',
        )
    for place, record in records:
        where = f"{path.name}, {place}"
        yield (where, record) if isinstance(record, dict) else (where, IncompleteRow.NOT_A_JSON_OBJECT)


def _records(data: Any) -> Iterator[tuple[str, Any]] | None:
    if isinstance(data, list):
        return ((f"item {i}", item) for i, item in enumerate(data, start=1))
    if not isinstance(data, dict):
        return None
    images, annotations = data.get("images"), data.get("annotations")
    if isinstance(images, list) and isinstance(annotations, list):
        return _coco(images, annotations, data)
    if isinstance(images, list):
        return ((f"image {i}", _karpathy(item)) for i, item in enumerate(images, start=1))
    if data and all(posixpath.splitext(name)[1].lower() in IMAGE_SUFFIXES for name in data):
        return ((repr(name), _named(name, value)) for name, value in data.items())
    lists = [value for value in data.values() if isinstance(value, list) and value and isinstance(value[0], dict)]
    return _records(lists[0]) if len(lists) == 1 else None


def _coco(images: list[Any], annotations: list[Any], data: Mapping[str, Any]) -> Iterator[tuple[str, Any]]:
    """A row for each image, with its captions, and the names of the categories of its objects as keywords."""
    categories, licences = _names(data.get("categories")), _names(data.get("licenses"))
    captions: defaultdict[Any, list[Any]] = defaultdict(list)
    keywords: defaultdict[Any, dict[str, None]] = defaultdict(dict)
    known = {_key(image.get("id")) for image in images if isinstance(image, dict)}
    for i, annotation in enumerate(annotations, start=1):
        if not isinstance(annotation, dict) or _key(annotation.get("image_id")) not in known:
            yield f"annotation {i}", {}
            continue
        image = _key(annotation["image_id"])
        if "caption" in annotation:
            captions[image].append(annotation["caption"])
        category = categories.get(_key(annotation.get("category_id")))
        if category:
            keywords[image][category] = None
    for i, image in enumerate(images, start=1):
        if not isinstance(image, dict):
            yield f"image {i}", image
            continue
        key = _key(image.get("id"))
        row = {"image": image.get("file_name"), "licence": licences.get(_key(image.get("license")))}
        if key in captions:
            row["captions"] = captions[key]
        yield f"image {image.get('id', i)}", row | {"keywords": list(keywords[key])}


def _names(items: Any) -> dict[str, str]:
    records = [item for item in items if isinstance(item, dict)] if isinstance(items, list) else []
    return {_key(item.get("id")): str(item.get("name") or "") for item in records}


def _key(value: Any) -> str:
    """Ids are numbers in some files and text in others."""
    return str(value)


def _karpathy(image: Any) -> Any:
    if not isinstance(image, dict) or not isinstance(image.get("sentences"), list):
        return image
    name = image.get("filename") or image.get("file_name") or ""
    sentences = [s.get("raw") if isinstance(s, dict) else s for s in image["sentences"]]
    split = "train" if image.get("split") == RESTVAL else image.get("split")
    return {"image": posixpath.join(str(image.get("filepath") or ""), str(name)), "captions": sentences, "split": split}


def _named(name: str, value: Any) -> dict[str, Any]:
    return {"image": name, **value} if isinstance(value, dict) else {"image": name, "captions": value}
