"""Every page without JavaScript: what a person sees and can do."""

from __future__ import annotations

import csv
import io
import json
import re
from concurrent.futures import ThreadPoolExecutor

import httpx
import pytest
from PIL import Image
from starlette.testclient import TestClient
from tests.support.images import solid_image
from tests.web.conftest import BASE, World

from clerestory.core.digest import digest_bytes
from clerestory.core.provenance import _imports_of, code_digest, imported_files
from clerestory.core.stage import stages
from clerestory.web import create_app


def pictures_of(page: str) -> list[str]:
    return re.findall(r'<img src="(/images/[^"]+)" alt=""', page)


def visible(page: str) -> str:
    return " ".join(re.sub(r"<[^>]+>", " ", page).split())


# Search


def test_a_text_search_shows_pictures_with_captions_and_confidence(client: TestClient, world: World) -> None:
    answer = client.get("/", params={"q": "a red heart"})
    found = pictures_of(answer.text)
    assert len(found) == 30
    assert len(set(found)) == 30
    assert re.search(rf"the 30 best matches of {len(world.data)} pictures, in \d+ ms", visible(answer.text))
    shown = re.findall(
        r'class="confidence c\d" title="(?:Of 100 answers with such a score, about \d+ were right'
        r'|The query matches nothing here better than random words do)"',  # so it is with untrained weights
        answer.text,
    )
    assert len(shown) == 30
    assert answer.headers["clerestory-release"] == world.live.ref
    image = client.get(found[0])
    assert image.headers["content-type"] == "image/png"
    assert "immutable" in image.headers["cache-control"]


def test_words_after_a_minus_are_avoided_and_a_long_query_is_cut_with_a_notice(client: TestClient) -> None:
    plain, avoided = (client.get("/", params={"q": query}).text for query in ("a red heart", "a red heart -face"))
    assert pictures_of(avoided) != pictures_of(plain)
    assert "The confidence is not measured for a query with words to leave out" in visible(avoided)
    only = client.get("/", params={"q": "-face"}).text
    assert "Add what you are looking for" in visible(only)
    assert not pictures_of(only)
    cut = client.get("/", params={"q": "heart " * 800}).text
    assert "The query has 4,799 characters, and only the first 300 are searched for." in visible(cut)
    assert "Search all styles" not in cut


def test_a_query_in_another_language_is_named_and_its_hits_are_unlikely(client: TestClient) -> None:
    page = client.get("/", params={"q": "un perro en la playa"}).text
    assert "This seems to be Spanish, but the model was trained on English only; write it in English." in visible(page)
    assert page.count('class="confidence c0"') == 30
    assert "in English" in visible(client.get("/").text)
    assert "seems to be" not in client.get("/", params={"q": "a dog on the beach"}).text


def test_the_pictures_are_the_models_nearest(client: TestClient, world: World) -> None:
    searcher = client.app.state.server.follower.loaded.searcher  # type: ignore[attr-defined]  # behind the ASGI type
    best = searcher.model.embed_texts(["a red heart"])[0] @ searcher.index.embeddings().T
    wanted = searcher.index.samples[int(best.argmax())]
    assert f"/images/{wanted.id}?" in pictures_of(client.get("/", params={"q": "a red heart"}).text)[0]


def test_a_style_narrows_the_search_and_stays_in_the_links(client: TestClient) -> None:
    page = client.get("/", params={"q": "flag", "style": "noto"}).text
    found = pictures_of(page)
    assert found
    assert all(each.startswith("/images/noto/") for each in found)
    assert '<option value="noto" selected>' in page
    assert "style=noto" in re.findall(r'href="(/\?like=[^"]+)"', page)[0]


def test_an_unknown_style_is_reported_and_all_styles_are_searched(client: TestClient, world: World) -> None:
    page = client.get("/", params={"q": "flag", "style": "rococo"}).text
    assert "There is no style called “rococo”" in page
    assert f"of {len(world.data)} pictures" in page


def test_more_like_one_picture(client: TestClient, world: World) -> None:
    sample = world.data.samples[7]
    page = client.get("/", params={"like": sample.id}).text
    assert "More like this" in page
    assert sample.licence in page
    assert f"/images/{sample.id}?" not in "".join(pictures_of(page))


def test_show_more_continues_after_the_last_picture(client: TestClient) -> None:
    first = client.get("/", params={"q": "flag"}).text
    more = re.findall(r'href="(/\?q=flag&amp;n=60#picture-31)"', first)
    assert more
    longer = pictures_of(client.get("/", params={"q": "flag", "n": "60"}).text)
    assert longer[:30] == pictures_of(first)
    assert len(longer) == 60


@pytest.mark.parametrize("n", ["-5", "abc", "9999999999", "²", ""])
def test_a_senseless_count_is_harmless(client: TestClient, n: str) -> None:
    assert len(pictures_of(client.get("/", params={"q": "flag", "n": n}).text)) == 30


def test_without_a_query_there_are_examples_and_some_pictures(client: TestClient) -> None:
    page = client.get("/").text
    assert 'href="/?q=a+feline"' in page
    assert len(pictures_of(page)) == 30
    assert 'class="confidence' not in page


def test_a_query_is_never_markup(client: TestClient) -> None:
    page = client.get("/", params={"q": '"><script>alert(1)</script>'}).text
    assert "<script>alert" not in page


def test_an_unknown_picture_is_a_friendly_404(client: TestClient) -> None:
    answer = client.get("/", params={"like": "noto/cat-fce"})
    assert answer.status_code == 404
    assert "There is no picture named" in answer.text
    assert client.get("/images/none/such").status_code == 404


def test_pictures_are_cached_by_the_browser(client: TestClient, world: World) -> None:
    sample = world.data.samples[0]
    first = client.get(f"/images/{sample.id}")
    assert digest_bytes(first.content) == sample.image
    again = client.get(f"/images/{sample.id}", headers={"if-none-match": first.headers["etag"]})
    assert again.status_code == 304
    assert "max-age=300" in first.headers["cache-control"]


# Describe


def begin(client: TestClient, count: int = 3) -> str:
    """A review of some pictures of one colour; gives its address."""
    colours = ("tomato", "navy", "gold", "teal")
    files = [("images", (f"{colours[i]}.png", solid_image(colour=colours[i]))) for i in range(count)]
    return client.post("/describe", files=files).url.path


def step(client: TestClient, review: str, do: str, **captions: str) -> str:
    form = {"do": do} | {name.replace("_", "-"): text for name, text in captions.items()}
    return client.post(review, data=form).text


def table(client: TestClient, review: str) -> list[dict[str, str]]:
    answer = client.get(f"{review}/captions.csv")
    assert answer.headers["content-type"] == "text/csv; charset=utf-8"
    return list(csv.DictReader(io.StringIO(answer.content.decode("utf-8-sig"))))


def boxes(page: str) -> dict[str, str]:
    return dict(re.findall(r'name="(caption-\d+)" value="([^"]*)"', page))


def test_suggest_edit_accept_download(client: TestClient, world: World) -> None:
    review = begin(client)
    page = client.get(review).text
    assert "Your pictures stay on this computer" in page
    assert "0 of 3 accepted" in page
    assert all(boxes(page).values())
    assert client.get(f"{review}/1.webp").headers["content-type"] == "image/webp"
    page = step(client, review, "accept-2", caption_2="  deep \t blue ")
    assert "1 of 3 accepted" in page
    rows = table(client, review)
    assert [(row["file"], row["caption"]) for row in rows] == [("navy.png", "deep blue")]
    assert rows[0]["suggested by"] == world.live.ref
    assert rows[0]["suggested"]


def test_a_chosen_suggestion_is_accepted_into_the_caption(client: TestClient) -> None:
    review = begin(client, 1)
    page = client.get(review).text
    texts = re.findall(r'<span class="visually-hidden">Accept: </span>([^<]+)</span>', page)
    page = step(client, review, "use-1-2")
    assert boxes(page) == {"caption-1": texts[1]}
    assert "1 of 1 accepted" in page
    assert [row["caption"] for row in table(client, review)] == [texts[1]]
    assert "0 of 1 accepted" in step(client, review, "undo")


def test_every_step_can_be_undone_and_unsaved_words_survive(client: TestClient) -> None:
    review = begin(client)
    step(client, review, "accept-1", caption_1="red")
    step(client, review, "remove-2")
    page = step(client, review, "undo", caption_1="red", caption_3="half typed")
    assert boxes(page)["caption-3"] == "half typed"
    assert "caption-2" in boxes(page)
    assert "1 of 3 accepted" in page
    page = step(client, review, "undo")
    assert "0 of 3 accepted" in page
    assert 'id="undo" type="submit" name="do" value="undo" disabled' in page


def test_accept_all_skips_empty_captions(client: TestClient) -> None:
    review = begin(client)
    page = step(client, review, "accept-all", caption_1="red", caption_2="", caption_3="yellow")
    assert "2 of 3 accepted" in page
    assert [row["caption"] for row in table(client, review)] == ["red", "yellow"]


def test_an_empty_caption_cannot_be_accepted(client: TestClient) -> None:
    page = step(client, begin(client, 1), "accept-1", caption_1="  ")
    assert "Write a caption for tomato.png first" in page
    assert "0 of 1 accepted" in page


def test_more_pictures_join_the_review(client: TestClient) -> None:
    review = begin(client, 2)
    step(client, review, "accept-1", caption_1="red")
    page = client.post(f"{review}/more", files=[("images", ("late.png", solid_image(colour="teal")))]).text
    assert "1 of 3 accepted" in page
    assert "Undo" in page
    assert "adding 1 picture" in page


def test_an_upload_in_several_requests_is_one_step(client: TestClient) -> None:
    review = begin(client, 1)

    def send(name: str, content: bytes) -> dict[str, object]:
        files = [("upload", (None, "an id")), ("images", (name, content))]
        answer = client.post(f"{review}/more", files=files, headers={"accept": "application/json"})
        return dict(answer.json())

    assert send("tomato.png", solid_image(colour="teal"))["accepted"] == 1
    assert send("notes.png", b"hello")["accepted"] == 0
    assert send("gold.png", solid_image(colour="gold"))["more"] == f"{review}/more"
    page = client.get(review).text
    assert "1 of 3 files was not read" in visible(page)
    assert re.findall(r'id="name-\d">([^<]+)', page) == ["tomato.png", "tomato.png (2)", "gold.png"]
    assert "adding 2 pictures" in page
    assert "0 of 1 accepted" in step(client, review, "undo")


def test_a_long_review_has_pages_and_goes_on_with_the_next_picture(
    client: TestClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("clerestory.web.describe.PAGE_SIZE", 2)
    review = begin(client, 4)
    assert list(boxes(client.get(review).text)) == ["caption-1", "caption-2"]
    answer = client.post(review, data={"do": "page-2", "caption-1": "typed and not saved"})
    assert answer.url.query == b"page=2"
    assert list(boxes(answer.text)) == ["caption-3", "caption-4"]
    assert boxes(client.get(review).text)["caption-1"] == "typed and not saved"
    step(client, review, "accept-1")
    assert client.post(review, data={"do": "accept-2"}).url.query == b"page=2"
    assert "4 of 4 accepted" in step(client, f"{review}?page=2", "accept-all", caption_4="the last one")
    assert [row["caption"] for row in table(client, review)][3] == "the last one"
    for number in ("0", "99", "x", "\u00b2"):
        assert client.get(review, params={"page": number}).status_code == 200


def test_pictures_are_shown_large(client: TestClient) -> None:
    content = solid_image(size=(1200, 900))
    review = client.post("/describe", files=[("images", ("wide.png", content))]).url.path
    addresses = re.findall(rf'(?:href|src)="({review}/1.webp[^"]*)"', client.get(review).text)
    sizes = [Image.open(io.BytesIO(client.get(address).content)).size for address in addresses]
    assert sizes == [(1200, 900), (480, 360)]


def test_a_spreadsheet_runs_nothing(client: TestClient) -> None:
    review = begin(client, 1)
    step(client, review, "accept-1", caption_1="=HYPERLINK(1)")
    assert table(client, review)[0]["caption"] == "'=HYPERLINK(1)"


def test_no_download_before_anything_is_accepted(client: TestClient) -> None:
    review = begin(client, 1)
    assert 'aria-disabled="true"' in client.get(review).text
    assert client.get(f"{review}/captions.csv").status_code == 409


def test_example_pictures_can_be_tried(client: TestClient) -> None:
    page = client.post("/describe/examples")
    assert page.url.path.startswith("/describe/")
    assert "0 of 3 accepted" in page.text


@pytest.mark.parametrize("do", ["explode", "accept-99", "accept-x", "use-1-77", "use-1", "remove-²"])
def test_a_senseless_step_changes_nothing(client: TestClient, do: str) -> None:
    review = begin(client, 1)
    before = client.get(review).text
    assert client.post(review, data={"do": do}).status_code in {400, 404}
    assert client.get(review).text == before


def test_a_dropped_review_is_reported(client: TestClient) -> None:
    answer = client.get("/describe/never-was")
    assert answer.status_code == 404
    assert "This review is no longer open" in answer.text


# Releases


def test_the_live_release_with_reason_time_and_person(client: TestClient, world: World) -> None:
    said = visible(client.get("/releases").text)
    assert "Live now: icons@2" in said
    assert "Yes, it may ship" in said
    assert "All 2 rules of the policy passed." in said
    assert "Made live by grace" in said
    assert "“it holds every rule”" in said
    assert "icons@1 Must not ship" in said.replace("  ", " ")
    assert "Intact" in said
    length, _ = world.store.journal.head()  # other tests of this server add incidents
    assert re.findall(r"record (\d+),", said) == [str(number) for number in range(length, 0, -1)]


def test_a_refused_release_names_the_failed_rule_and_the_next_command(client: TestClient, world: World) -> None:
    page = client.get("/releases/icons/1").text
    said = visible(page)
    assert "No, it must not ship" in said
    assert "1 of 2 rules failed: pictures found by their caption." in said
    assert "at least 99 % required" in said
    assert "Search is what most people use the model for." in said
    assert f'href="/evidence/{world.refused.evidence[0]}"' in page
    assert said.index("Failed") < said.index("Passed")


def test_evidence_shows_every_measurement_with_interval_n_and_slice(client: TestClient, world: World) -> None:
    evidence = world.store.evidence(world.live.evidence[0])
    page = client.get(f"/evidence/{evidence.id[:12]}").text
    said = visible(page)
    assert page.count('data-label="Value"><b>') == len(evidence.measurements)
    for each in evidence.measurements:
        assert f"n = {each.n:,}" in said
    assert all(value in page for value in (evidence.subject.model, evidence.subject.data, evidence.subject.code))
    assert "Up to date" in said
    assert "icons@2" in said


def test_the_json_of_evidence_has_the_digest_it_is_named_by(client: TestClient, world: World) -> None:
    evidence = world.live.evidence[0]
    content = client.get(f"/evidence/{evidence}.json").content
    assert digest_bytes(content) == evidence
    assert json.loads(content)["kind"] == "evaluate"


def test_stale_evidence_names_the_change(client: TestClient, world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("clerestory.stages.release.decision.stage_code", lambda kind: "0" * 64)
    said = visible(client.get(f"/evidence/{world.live.evidence[0]}").text)
    assert "Stale The code changed after it was measured" in said


@pytest.mark.parametrize(
    "path", ["/releases/icons/9", "/releases/nobody/1", "/evidence/00000000", "/releases?name=icon"]
)
def test_an_unknown_page_is_a_404_with_a_hint(client: TestClient, path: str) -> None:
    answer = client.get(path)
    assert answer.status_code == 404
    assert 'class="lead"' in answer.text


def test_releases_are_shown_before_the_model_is_loaded_and_search_waits(world: World) -> None:
    app = create_app(world.store, world.data)
    client = TestClient(app, base_url=BASE, headers={"origin": BASE}, raise_server_exceptions=False)  # nothing started
    assert client.get("/releases").status_code == 200
    assert client.get("/healthz").status_code == 200
    answer = client.get("/")
    assert answer.status_code == client.get("/readyz").status_code == 503
    assert "Not ready yet" in answer.text
    assert answer.headers["refresh"]  # the page appears by itself
    assert "To the search page" not in answer.text, "this is the search page"
    assert "To the search page" in client.get("/describe").text
    assert client.post("/v1/embeddings", json={"input": "cat"}).json()["error"]["type"] == "not_ready"


def test_the_first_visits_of_the_releases_may_all_come_at_the_same_time(server: str) -> None:
    for function in (imported_files, _imports_of, code_digest, stages):
        function.cache_clear()
    with ThreadPoolExecutor(16) as pool:
        answers = list(pool.map(lambda _: httpx.get(f"{server}/releases", timeout=300), range(16)))
    assert [answer.status_code for answer in answers] == [200] * 16
