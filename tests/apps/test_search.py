"""Search finds what a loop over all pictures would find."""

import numpy as np
import pytest
from PIL import Image
from tests.support.colour_tiles import COLOURS, ColourModel, tiles

from clerestory.apps.search import SearchIndex, build_index, search, search_by_image
from clerestory.core.errors import CapabilityError, DataError, InputError, IntegrityError
from clerestory.core.sample import Dataset, Sample
from clerestory.data.images import decode_image
from clerestory.store import Store, open_store


@pytest.fixture(scope="module")
def data() -> Dataset:
    return tiles(broken=["plain/tan"])


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Store:
    return open_store(tmp_path_factory.mktemp("search") / "home")


@pytest.fixture(scope="module")
def index(data: Dataset, home: Store) -> SearchIndex:
    return build_index(ColourModel(), data, home)


@pytest.mark.parametrize("dim", [None, 4, 8])
@pytest.mark.parametrize("query", ["crimson", "a TEAL thing", "nothing that has a colour", "gold or navy"])
def test_a_text_query_finds_the_same_as_a_loop(query: str, dim: int | None, data: Dataset, index: SearchIndex) -> None:
    model = ColourModel()
    asked = model.embed_texts([query], dim)[0]
    wanted = []
    for sample in data:
        if sample.id != "plain/tan":
            row = model.embed_images([decode_image(data.read(sample))], dim)[0]
            wanted.append((-float(row @ asked), sample.id))
    hits = search(model, index, query, 12, dim)
    assert [hit.score for hit in hits] == pytest.approx([-score for score, _ in sorted(wanted)[:12]], abs=1e-6)
    scores = {sample_id: -score for score, sample_id in wanted}
    assert [scores[hit.sample.id] for hit in hits] == pytest.approx([hit.score for hit in hits], abs=1e-6)


def test_the_named_colour_comes_first(index: SearchIndex) -> None:
    model = ColourModel()
    right = sum(search(model, index, f"something {colour}", 1)[0].sample.concept == colour for colour in COLOURS)
    assert right >= 20


def test_a_picture_finds_itself(data: Dataset, index: SearchIndex) -> None:
    sample = data["pale/orchid"]
    hits = search_by_image(ColourModel(), index, decode_image(data.read(sample)), 5)
    assert hits[0].sample == sample
    assert hits[0].score == pytest.approx(1.0)
    assert len(hits) == 5


def test_an_unreadable_picture_is_counted_and_never_found(data: Dataset, index: SearchIndex) -> None:
    assert index.num_unreadable == 1
    hits = search(ColourModel(), index, "tan", 10_000)
    assert len(hits) == len(data) - 1
    assert "plain/tan" not in {hit.sample.id for hit in hits}


def test_equally_good_pictures_come_in_the_order_of_their_ids(store: Store) -> None:
    one = tiles()
    copies = [Sample(f"copy-{i}", one.samples[0].image) for i in (3, 1, 2, 0)]
    index = build_index(ColourModel(), Dataset("copies", copies, lambda sample: one.read(sample)), store)
    assert [hit.sample.id for hit in search(ColourModel(), index, "red", 3)] == ["copy-0", "copy-1", "copy-2"]


def test_an_image_under_a_wrong_digest_leaves_nothing_in_the_cache(store: Store) -> None:
    one = tiles()
    wrong, right = one.samples[0], one.samples[1]
    mixed = Dataset("mixed", [wrong], lambda sample: one.read(right))
    with pytest.raises(IntegrityError, match="has changed"):
        build_index(ColourModel(), mixed, store)
    index = build_index(ColourModel(), one, store)
    assert search_by_image(ColourModel(), index, decode_image(one.read(wrong)), 1)[0].sample == wrong


def test_the_index_is_built_once(data: Dataset, index: SearchIndex, home: Store) -> None:
    model = ColourModel()
    again = build_index(model, data, open_store(home.home))
    assert model.images_seen == 0
    np.testing.assert_array_equal(again.embeddings(), index.embeddings())
    assert len(again) == len(data)


def test_invalid_searches_are_errors(index: SearchIndex, store: Store) -> None:
    model = ColourModel()
    with pytest.raises(InputError, match="query is empty"):
        search(model, index, "  \t ")
    with pytest.raises(InputError, match="at least one"):
        search(model, index, "red", 0)
    with pytest.raises(CapabilityError, match="it has 4, 8"):
        search(model, index, "red", dim=5)
    with pytest.raises(CapabilityError, match="another model"):
        search_by_image(ColourModel(silent="red"), index, Image.new("RGB", (4, 4)))
    with pytest.raises(DataError, match="has no images"):
        build_index(model, Dataset("nothing", [], lambda sample: b""), store)


class Numb(ColourModel):
    def embed_texts(self, texts: list[str], dim: int | None = None) -> np.ndarray:
        return super().embed_texts(texts, dim) * np.nan


def test_a_query_without_a_usable_embedding_is_an_error(index: SearchIndex) -> None:
    with pytest.raises(CapabilityError, match="not finite"):
        search(Numb(), index, "red")
