"""``clerestory use search``: by words, by images, or by both."""

from __future__ import annotations

import shlex
import time
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import Annotated, Any, Literal

from cyclopts import Parameter
from PIL import Image
from rich.table import Table

from clerestory.apps.captioning import captions_csv, file_cell, file_problem, read_image_file
from clerestory.apps.confidence import (
    FOREIGN,
    NO_MATCH,
    UNLIKE,
    Confidence,
    SearchCalibrators,
    fit_search,
)
from clerestory.apps.datasets import load_dataset, show_findings
from clerestory.apps.folder_index import FolderHit, QueryPart, SearchFilter, compose_query
from clerestory.apps.folder_index.captions import FolderCaptions, FolderSamples, read_captions, samples_digest
from clerestory.apps.folder_index.filters import check_under, parse_date
from clerestory.apps.folder_index.output import write_links
from clerestory.apps.folder_index.query import WITHOUT_WEIGHT, parse_query
from clerestory.apps.folder_index.source import count_unlike_files, image_folder
from clerestory.apps.loading import known_models
from clerestory.apps.query_language import QueryLanguages
from clerestory.apps.right_model import data_kinds
from clerestory.apps.search import SearchHit, SearchIndex, build_index, search_by_embedding
from clerestory.apps.starter import DEFAULT_NAME
from clerestory.apps.tagging import embed_and_tag, open_index
from clerestory.apps.tags import Tag, encode_tag, reasons
from clerestory.apps.training_reference import (
    TrainingReference,
    count_unlike,
    training_reference,
    unlike_sentence,
)
from clerestory.cli.help_format import FittingModel
from clerestory.cli.model_output import label, load_fitting, name_unreadable, warn
from clerestory.cli.output import PLAIN, Common, Output
from clerestory.cli.temporary_store import open_store_or_temporary
from clerestory.cli.usage import is_folder_argument, quote_path
from clerestory.core.errors import DataError, InputError
from clerestory.core.outputs import check_output, check_output_folder, write_output
from clerestory.core.sample import Dataset
from clerestory.core.settings import Range, check_number
from clerestory.core.text import valid_unicode
from clerestory.core.units import plural
from clerestory.data.images import decode_image
from clerestory.models.protocols import Embedder, require_capability
from clerestory.store import Store


@dataclass
class SearchQuery:
    """What is searched for.

    Attributes:
        words: to find; may be empty.
        images: to find, with their paths.
        without: words to avoid.
        like_weight, without_weight: of each image, and of the words to avoid, against 1 for the words to find.
        tags: of the images, once they are embedded.
    """

    words: str
    images: list[tuple[Path, Image.Image]]
    without: list[str]
    like_weight: float
    without_weight: float
    tags: list[Tag] = field(default_factory=list)

    def embed(self, model: Embedder) -> Any:
        """The embedding (D) of the whole query."""
        texts = [text for text in (self.words, *self.without) if text]
        rows = iter(model.embed_texts(texts)) if texts else iter(())
        parts = [QueryPart(next(rows))] if self.words else []
        parts += [QueryPart(next(rows), -self.without_weight) for _ in self.without]
        if self.images:
            found = embed_and_tag(model)([image for _, image in self.images])
            parts += [QueryPart(row, self.like_weight) for row in found.rows]
            self.tags = [tag for some in found.tags for tag in some or ()]
        return compose_query(parts)

    @property
    def is_text(self) -> bool:
        """Whether it is nothing but words to find."""
        return bool(self.words) and not self.images and not self.without

    @property
    def is_image(self) -> bool:
        """Whether it is nothing but one image."""
        return len(self.images) == 1 and not self.words and not self.without


def search_(
    *words: str,
    like: Annotated[list[Path] | None, Parameter(name=("--like", "--image"), negative=())] = None,
    without: Annotated[list[str] | None, Parameter(negative=())] = None,
    like_weight: float = 1.0,
    without_weight: float = WITHOUT_WEIGHT,
    data: str | None = None,
    model: FittingModel = "",
    limit: int = 10,
    under: str = "",
    name: str = "",
    after: str = "",
    before: str = "",
    orientation: Literal["landscape", "portrait", "square"] | None = None,
    min_side: int = 0,
    rescan_all: Annotated[bool, Parameter(negative=())] = False,
    csv: Path | None = None,
    links: Path | None = None,
    force: Annotated[bool, Parameter(negative=())] = False,
    common: Common = PLAIN,
) -> None:
    """Search images by text, in any phrasing, by other images, or by both.

    Args:
        words: The query, such as: a happy cat; in a language of the model, for Clerestory's own models English. In
            quotes, a word after a minus is avoided: "beach -people".
        like: A JPEG, PNG or WEBP file: images similar to it are found. Repeat it for several; with words, images that
            match both.
        without: Words for what the images should not show; quote several words. Repeat it for several.
        like_weight: The weight of each image of --like; that of the words is 1.
        without_weight: The weight of each --without.
        data: The images to search: a folder, the name of a dataset, or any source that "data add" accepts (default:
            icons).
        limit: The maximum number of images.
        under: Of a folder, only images in this subfolder.
        name: Of a folder, only images whose file name matches this pattern, such as "IMG_2*.jpg"; quote it.
        after: Of a folder, only images taken on this day or later, such as 2024-05-31; also 2024-05 or 2024.
        before: Of a folder, only images taken on this day or earlier, or until the end of a month or year.
        orientation: Of a folder, only landscape, portrait or square images.
        min_side: Of a folder, only images whose shorter side has at least this many pixels.
        rescan_all: Read every file of the folder, also those whose size and time have not changed.
        csv: Write the results to this file.
        links: Write the results to this new folder, as links to the images, numbered by rank.
        force: Replace an existing --csv file.
    """
    check_number("--limit", limit, Range(1))
    check_number("--like-weight", like_weight, Range(0))
    check_number("--without-weight", without_weight, Range(0))
    check_number("--min-side", min_side, Range(0))
    filters = SearchFilter(
        under,
        name,
        parse_date(after, "--after"),
        parse_date(before, "--before", last_day=True),
        orientation or "",
        min_side,
    )
    if data is None:
        _refuse_folder(words)
    data = DEFAULT_NAME if data is None else data
    images = [(path, _query_image(path)) for path in like or []]
    parsed = parse_query(" ".join(words))
    avoided = [*parsed.without, *(text for text in without or [] if text.strip())]
    query = SearchQuery(parsed.words, images, avoided, like_weight, without_weight)
    if not query.words and not images:
        fix = "add words to find, or an image with --like" if query.without else "enter a few words"
        raise InputError("the query is empty", fix)
    if csv:
        check_output(csv, force)
    if links:
        check_output_folder(links)
    if parsed.problem:
        common.out.write_line(f"warning: {parsed.problem}")
    store = open_store_or_temporary(common)
    folder = image_folder(store, data)
    if folder is None and (filters != SearchFilter() or links or rescan_all):
        raise InputError(
            "filters, --links and --rescan-all need a folder of images", "name one with --data, such as --data ./photos"
        )
    dataset = load_dataset(store, data, common.out) if folder is None else None
    loaded = load_fitting(store, model, partial(data_kinds, store, folder, dataset), common)
    embedder = require_capability(loaded, "Embedder", "searching images", known_models(store))
    if folder is not None:
        found = _search_folder(folder, query, embedder, store, filters, limit, rescan_all, common.out)
    else:
        assert dataset is not None  # it was loaded above
        found = _search_dataset(dataset, query, embedder, store, limit, common.out)
    rows = [found.row(i) for i in range(len(found.hits))]
    if csv:
        write_output(csv, captions_csv(found.cells(csv)).encode(), force)
        common.out.write_line(f"wrote {csv}")
    if links and found.folder and found.files:
        kind = write_links([found.folder / hit.path for hit in found.files], links)
        one = "copy" if kind == "copies" else kind.removesuffix("s")
        common.out.write_line(f"wrote {plural(len(rows), one, kind)} to {links}")
    common.out.result(rows, found.table())


@dataclass
class SearchResult:
    """The results of a search.

    Attributes:
        hits: samples with their scores, best first.
        confidences: of each hit; None where it was not measured.
        folder: that was searched; None for a dataset.
        files: the files of the hits, if a folder was searched.
        shared: the tags of each file that the query names or its images have.
    """

    hits: list[SearchHit]
    confidences: list[Confidence | None]
    folder: Path | None = None
    files: list[FolderHit] | None = None
    shared: Sequence[tuple[str, ...]] = ()

    def row(self, i: int) -> dict[str, Any]:
        """One result for a program."""
        hit = self.hits[i]
        row = {
            "rank": i + 1,
            "id": hit.sample.id,
            "caption": hit.sample.caption,
            "confidence": label(self.confidences[i]),
            "score": round(hit.score, 6),
        }
        if self.files and self.folder:
            file = self.files[i]
            row |= {
                "file": valid_unicode(str(self.folder / file.path)),
                "width": file.width,
                "height": file.height,
                "date": _date(file),
                "copies": [valid_unicode(path) for path in file.copies],
                "tags": None if file.tags is None else [encode_tag(tag) for tag in file.tags],
                "shared_tags": list(self.shared[i]),
            }
        return row

    def cells(self, csv: Path) -> list[dict[str, Any]]:
        """The results for a spreadsheet, with files relative to the folder of the table."""
        rows = []
        for i in range(len(self.hits)):
            row = self.row(i)
            if self.files and self.folder:
                row["file"] = valid_unicode(file_cell((self.folder / self.files[i].path).absolute(), csv.absolute()))
                row["copies"] = "; ".join(row["copies"])
                row["tags"] = ", ".join(tag.text for tag in self.files[i].tags or ())
                row["shared_tags"] = ", ".join(self.shared[i])
            rows.append(row)
        return rows

    def table(self) -> Table:
        """The results for a person."""
        captioned = self.files is None or any(hit.sample.caption for hit in self.hits)
        columns = ["confidence", "image" if self.files else "sample", *(["caption"] if captioned else [])]
        if self.files:
            columns += ["date", "size", *(["shared tags"] if any(self.shared) else [])]
        table = Table(*columns, box=None)
        for i, hit in enumerate(self.hits):
            cells = [label(self.confidences[i]), hit.sample.id, *([hit.sample.caption] if captioned else [])]
            if self.files:
                file = self.files[i]
                copies = f" (and {plural(len(file.copies), 'copy', 'copies')})" if file.copies else ""
                cells[1] += copies
                cells += [_date(file)[:10], f"{file.width}×{file.height}"]
                cells += [", ".join(self.shared[i])] if any(self.shared) else []
            table.add_row(*cells)
        return table


def _search_dataset(
    dataset: Dataset, query: SearchQuery, model: Embedder, store: Store, limit: int, out: Output
) -> SearchResult:
    reference = training_reference(model, store, out)
    index = build_index(model, dataset, store, out)
    warn(unlike_sentence(*count_unlike(reference, dataset, store), reference.data), out)
    hits = search_by_embedding(model, index, query.embed(model), limit)
    return SearchResult(hits, _confidences(query, hits, model, index, store, reference, out))


def _search_folder(
    folder: Path,
    query: SearchQuery,
    model: Embedder,
    store: Store,
    filters: SearchFilter,
    limit: int,
    rescan_all: bool,
    out: Output,
) -> SearchResult:
    index = open_index(folder, store, model)
    update = index.update(embed_and_tag(model), out, rescan_all=rescan_all)
    name_unreadable(update.unreadable, out, update.is_unreadable_known and not rescan_all)
    if not len(index):
        raise DataError(f"none of the images in {folder} can be read", "replace them, or name another folder")
    try:
        captions = read_captions(index, out)
    except DataError as error:
        out.write_line(f"warning: {error}; the search goes on without captions")
        captions = FolderCaptions()
    show_findings(captions.findings, str(folder), out)
    snapshot = index.snapshot
    samples = FolderSamples(snapshot, captions)
    if filters.under:
        filters = replace(filters, under=check_under(filters.under, index.folder, snapshot.state))
    reference = training_reference(model, store, out)
    warn(unlike_sentence(*count_unlike_files(reference, index, store), reference.data), out)
    files = index.search(query.embed(model), limit, filters)
    if not files and filters != SearchFilter():
        out.write_line("notice: no image meets the conditions; remove one of them")
    hits = [SearchHit(samples[snapshot.places[file.path]], file.score) for file in files]
    data = samples_digest(snapshot, captions)
    search_index = SearchIndex(model.digest, data, samples, snapshot.embeddings, model.dims)
    confidences = _confidences(query, hits, model, search_index, store, reference, out)
    shared = [reasons(file.tags, query.words, query.tags) for file in files]
    return SearchResult(hits, confidences, index.folder, files, shared)


def _confidences(
    query: SearchQuery,
    hits: Sequence[SearchHit],
    model: Embedder,
    index: SearchIndex,
    store: Store,
    reference: TrainingReference,
    out: Output,
) -> list[Confidence | None]:
    """The confidence of each hit; what the user should know about all of them is reported."""
    calibrators = fit_search(model, index, store)
    unlike = sum(reference.images.unlike([image for _, image in query.images])) if reference.images else 0
    warn(unlike_sentence(unlike, len(query.images), reference.data), out)
    doubt = _doubt(query.words, model, index, calibrators, out) if query.words else None
    if unlike or doubt:
        return [UNLIKE if unlike else doubt] * len(hits)
    if not query.is_text and not query.is_image:
        out.write_line("notice: the confidence of a query of several parts is not measured")
        return [None] * len(hits)
    confidences = calibrators.of_text(hits) if query.is_text else calibrators.of_image(hits)
    if query.is_text:
        _notice(confidences, out)
    return confidences


def _refuse_folder(words: Sequence[str]) -> None:
    """Raise ``InputError`` if the last word of a query without --data is a folder, which was meant to be searched."""
    *others, last = words or ("",)
    is_folder = is_folder_argument(last, alone=not others)
    if not is_folder and not last.startswith(("/", "~/", "./", "../")):
        return
    query = shlex.quote(" ".join(others)) if others else "WORDS"
    what = "is a folder" if is_folder else "is a path, but there is no such folder"
    raise InputError(
        f"{last} {what}, and a folder is searched with --data",
        f"run: clerestory use search {query} --data {quote_path(last)}; or quote the whole query if it is a word of it",
    )


def _query_image(path: Path) -> Image.Image:
    """The image to search with.

    Raises:
        InputError: it cannot be read.
    """
    try:
        return decode_image(read_image_file(path))
    except (OSError, InputError) as error:
        raise InputError(
            f"the query image {path} cannot be used: {file_problem(error)}", "give a JPEG, PNG or WEBP file"
        ) from error


def _doubt(
    query: str, model: Embedder, index: SearchIndex, calibrators: SearchCalibrators, out: Output
) -> Confidence | None:
    """Why no hit of a query is likely to be right, which is reported; None if some may be."""
    languages = QueryLanguages(model, index.samples)
    if foreign := languages.check(query):
        out.write_line(f"warning: {foreign.sentence}")
        return FOREIGN
    match = calibrators.query
    if match is None or match.is_answerable(index, model.embed_texts([query])[0]):
        return None
    words_in = f", in {' or '.join(languages.names)}" if languages.names else ""
    out.write_line(f"notice: nothing matches {query!r} better than random words would; try other words{words_in}")
    return NO_MATCH


def _notice(confidences: Sequence[Confidence | None], out: Output) -> None:
    """What the confidences have in common."""
    if not confidences:
        return
    if all(confidence is None for confidence in confidences):
        out.write_line("notice: no confidence is shown, because there are too few images to measure it")
    elif not any(confidence and confidence.level for confidence in confidences):
        out.write_line("notice: none of these is likely to be right; try other words")


def _date(file: FolderHit) -> str:
    return time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(file.date))
