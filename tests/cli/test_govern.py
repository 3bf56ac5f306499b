"""``clerestory govern``: the summary, the page, the table, statements, and sentences for wrong input."""

from __future__ import annotations

import csv
import json
import re
from html.parser import HTMLParser
from pathlib import Path

import pytest
from tests.support.released_store import add_release, released_store
from tests.support.tiny_model import make_tiny_model

from clerestory.cli.main import run
from clerestory.stages.release import promote
from clerestory.store import open_store

ITEMS = 72 + 211 + 38 + 9


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A store with a live release that was never evaluated."""
    folder = tmp_path_factory.mktemp("govern")
    with open_store(folder / "home") as store:
        released_store(store, folder / "models", 2)
    return folder / "home"


def clerestory(home: Path, capsys: pytest.CaptureFixture[str], *words: str) -> tuple[int, str, str]:
    code = run(["govern", *words, "--home", str(home)])
    printed = capsys.readouterr()
    return code, printed.out, printed.err


class Anchors(HTMLParser):
    """Ids and links of a page."""

    def __init__(self) -> None:
        super().__init__()
        self.ids: list[str] = []
        self.links: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        found = dict(attrs)
        self.ids += [found["id"] or ""] if "id" in found else []
        self.links += [(found["href"] or "")[1:]] if tag == "a" and (found.get("href") or "").startswith("#") else []


def test_terminal_json_page_and_table_say_the_same(
    home: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    page, table = tmp_path / "govern.html", tmp_path / "govern.csv"
    code, out, err = clerestory(home, capsys, "--report", str(page), "--csv", str(table))
    # A policy without rules is not a decision: the test's release fails there.
    assert code == 1
    assert "evidence index, not a compliance determination" in out
    assert "failed" in out
    assert "next: clerestory " in err
    rows = list(csv.DictReader(table.read_text(encoding="utf-8-sig").splitlines()))
    assert len(rows) == ITEMS
    code, out, _ = clerestory(home, capsys, "--json")
    answers = json.loads(out)["answers"]
    assert [(each["item"], each["state"]) for each in answers] == [(row["item"], row["state"]) for row in rows]
    html = page.read_text(encoding="utf-8")
    anchors = Anchors()
    anchors.feed(html)
    assert len(set(anchors.ids)) == len(anchors.ids)
    assert set(anchors.links) <= set(anchors.ids)
    assert sum(name.startswith("item-") for name in anchors.ids) == ITEMS
    assert "evidence index, not a compliance determination" in html
    assert not re.search(r"<script|https?://[^<\s]*\.(js|css)", html)
    assert len(html) < 1_000_000
    page.write_text("mine", encoding="utf-8")
    code, out, err = clerestory(home, capsys, "--report", str(page))
    assert (code, out) == (2, "")
    assert "already exists" in err
    assert page.read_text(encoding="utf-8") == "mine"


def test_one_framework_and_every_item(home: Path, capsys: pytest.CaptureFixture[str]) -> None:
    code, out, _ = clerestory(home, capsys, "icons@1", "--catalogue", "iso-42001", "--items")
    assert code == 1
    assert len(re.findall(r"^(passed|failed|stale|untested|needs a person|not applicable) +A\.", out, re.M)) == 38
    assert "since icons@1" in out


def test_a_person_states_and_withdraws(home: Path, capsys: pytest.CaptureFixture[str]) -> None:
    code, out, _ = clerestory(
        home, capsys, "state", "govern 2.1", "A.2.2", "--text", "See <b>the handbook</b>.", "--who", "Ada"
    )
    assert code == 0
    assert "GOVERN 2.1 stated, by Ada" in out
    assert clerestory(home, capsys, "not-applicable", "MS-2.7-007", "--why", "It generates nothing.")[0] == 0
    code, out, _ = clerestory(home, capsys, "statements", "--json")
    assert {each["item"] for each in json.loads(out)} == {"GOVERN 2.1", "A.2.2", "MS-2.7-007"}
    _, out, _ = clerestory(home, capsys, "--json")
    states = {each["item"]: each for each in json.loads(out)["answers"]}
    assert (states["GOVERN 2.1"]["state"], states["GOVERN 2.1"]["basis"]) == ("passed", "stated")
    assert states["MS-2.7-007"]["state"] == "not_applicable"
    page = home.parent / "stated.html"
    clerestory(home, capsys, "--report", str(page))
    assert "<b>the handbook" not in page.read_text(encoding="utf-8")
    assert "&lt;b&gt;the handbook" in page.read_text(encoding="utf-8")
    assert clerestory(home, capsys, "withdraw", "GOVERN 2.1", "A.2.2", "MS-2.7-007", "--why", "A test.")[0] == 0
    _, out, _ = clerestory(home, capsys, "statements")
    assert "nobody has stated anything" in out


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["state", "GOVERN 9.9", "--text", "x"], "there is no item named 'GOVERN 9.9'"),
        (["state", "GOVERN 2.1", "--text", "x", "--expires", "2020-01-01"], "would have expired already"),
        (["state", "GOVERN 2.1", "--text", "x", "--catalogue", "iso-42001"], "there is no item named"),
        (["state", "GOVERN 2.1", "--text", "x", "--release", "icons@9"], "icons@9"),
        (["withdraw", "GOVERN 2.3", "--why", "x"], "there is no statement about GOVERN 2.3"),
        (["not-applicable", "GOVERN 2.1", "--why", " "], "--why is empty"),
        (["--catalogue", "iso-4200"], "there is no catalogue named 'iso-4200'"),
        (["icons@7"], "icons@7"),
        (["diff", "iso-42001", "nope.toml"], "there is no such file"),
        (["items", "--catalogue", "nope"], "there is no catalogue named 'nope'"),
    ],
)
def test_wrong_input_is_one_sentence(
    home: Path, capsys: pytest.CaptureFixture[str], words: list[str], message: str
) -> None:
    before = len(open_store(home).journal.records())
    code, out, err = clerestory(home, capsys, *words)
    assert (code, out) == (2, "")
    assert message in err
    assert err.startswith("error: ")
    assert "fix: " in err or "did you mean" in err
    assert len(open_store(home).journal.records()) == before


def test_without_a_release_it_says_how_to_make_one(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    code, _, err = clerestory(tmp_path / "empty", capsys)
    assert code == 2
    assert "there is no release to govern" in err
    assert "clerestory release gate starter" in err
    code, _, err = clerestory(tmp_path / "empty", capsys, "state", "GOVERN 1.4", "--text", "x")
    assert code == 2
    assert "signs for the measurements of a release, and none is live" in err
    assert clerestory(tmp_path / "empty", capsys, "state", "GOVERN 1.1", "--text", "x")[0] == 0


def test_with_two_live_releases_it_asks_which_one(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with open_store(tmp_path / "home") as store:
        for name in ("bags", "icons"):
            release = add_release(store, make_tiny_model(tmp_path / name, seed=len(name)), name=name)
            promote(release.ref, store, "grace", "a test")
    code, out, err = clerestory(tmp_path / "home", capsys)
    assert (code, out) == (2, "")
    assert "2 releases are live: bags@live, icons@live" in err
    assert clerestory(tmp_path / "home", capsys, "bags", "--catalogue", "eu-ai-act-annex-iv")[0] in (0, 1)


def test_a_catalogue_of_ones_own_and_its_next_edition(
    home: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    head = 'id = "{0}"\nname = "House rules"\nedition = "{0}"\nsource = "us"\nlicence = "ours"\n'
    item = '[[items]]\nid = "{0}"\ntitle = "{1}"\nkind = "{2}"\n'
    old, new = tmp_path / "old.toml", tmp_path / "new.toml"
    old.write_text(head.format("h-2027") + item.format("H1", "Journal", "M") + item.format("H2", "On call", "S"))
    new.write_text(head.format("h-2028") + item.format("H1", "Journal", "M") + item.format("H3", "Plan", "S"))
    for each in (old, new):
        each.with_suffix(".verifiers.toml").write_text('[verifiers]\n"H1" = ["journal"]\n')
    code, out, _ = clerestory(home, capsys, "--catalogue", str(old), "--json")
    assert code == 0
    assert [each["state"] for each in json.loads(out)["answers"]] == ["passed", "needs_person"]
    assert clerestory(home, capsys, "state", "H2", "--text", "See the rota.", "--catalogue", str(old))[0] == 0
    code, out, _ = clerestory(home, capsys, "diff", str(old), str(new))
    assert code == 1
    assert "1 added, 0 changed, 1 removed, 1 the same" in out
    assert "nobody has answered yet: H3" in out
    assert clerestory(home, capsys, "diff", str(old), str(old))[0] == 0
