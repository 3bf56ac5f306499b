"""The release pages show which suites are up to date; relative rules are shown with the message of the gate."""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Iterator
from pathlib import Path

import pytest
from starlette.testclient import TestClient
from tests.report.world import World, make_world
from tests.web.conftest import BASE

from clerestory.core.codec import Tags
from clerestory.core.digest import canonical
from clerestory.core.evidence import Cost, Evidence
from clerestory.core.release import Policy, Reason, Rule
from clerestory.stages.evaluate import EvaluateConfig
from clerestory.stages.evaluate.context import EvaluationRequest
from clerestory.stages.evaluate.fingerprint import suite_kind, suite_subject
from clerestory.stages.evaluate.suites import SUITES
from clerestory.store import open_store
from clerestory.web import create_app

MADE = "2026-11-23T18:01:10+00:00"


def put_suite(world: World, name: str, **changed: str) -> Evidence:
    """Put up-to-date evidence of one suite into the store, except for the ``changed`` digests."""
    suite = next(suite for suite in SUITES if suite.name == name)
    request = EvaluationRequest(world.final.model, world.data.digest, EvaluateConfig(), world.store)
    subject = dataclasses.replace(suite_subject(suite, request), **changed)
    evidence = Evidence(suite_kind(suite), subject, (), (), Cost(12.0, 20.0, 300.0), MADE)
    world.store.put_evidence(evidence)
    return evidence


@pytest.fixture
def world(tmp_path: Path) -> Iterator[World]:
    with open_store(tmp_path / "home") as store:
        yield make_world(store, tmp_path / "models")


@pytest.fixture
def client(world: World) -> TestClient:
    """Without the model, which these pages do not need."""
    return TestClient(create_app(world.store, world.data), base_url=BASE, headers={"origin": BASE})


def states(page: str) -> dict[str, str]:
    """Tone and text of each suite, by its title."""
    items = re.findall(r'<li class="(\w+)">\s*<span class="what">(.*?)</span>(.*?)</li>', page, re.DOTALL)
    return {name: f"{tone} " + " ".join(re.sub(r"<[^>]+>", " ", rest).split()) for tone, name, rest in items}


@pytest.mark.parametrize("path", ["/releases", "/releases/icons/2"])
def test_each_suite_is_fresh_stale_or_missing_in_text_icon_and_colour(
    client: TestClient, world: World, path: str
) -> None:
    put_suite(world, "retrieval")
    put_suite(world, "captioning", code="0" * 64)
    page = client.get(path).text
    shown = states(page)
    assert len(shown) == len(SUITES)
    about = {suite.name: suite.description[:1].upper() + suite.description[1:] for suite in SUITES}
    assert re.fullmatch(
        r"yes Up to date measured .* ago ?, took 12 s", shown[about["retrieval"]].replace("\N{NO-BREAK SPACE}", " ")
    )
    assert shown[about["captioning"]].startswith("unsure Stale the code changed since")
    assert shown[about["latency"]] == "soft Missing never measured for this model"
    assert f"1 of {len(SUITES)} evaluation suites are up to date; 1 is stale and" in page
    assert "clerestory evaluate icons@2 --since icons@2" in page
    assert page.count('<span class="state unsure pill"><svg class="icon"') == 1, "never colour alone"


def test_when_all_are_fresh_there_is_nothing_to_run(client: TestClient, world: World) -> None:
    for suite in SUITES:
        put_suite(world, suite.name)
    page = client.get("/releases/icons/2").text
    assert f"All {len(SUITES)} evaluation suites are up to date." in page
    assert "--since" not in page


def test_other_settings_do_not_make_a_suite_stale(client: TestClient, world: World) -> None:
    put_suite(world, "retrieval", config="0" * 64)
    assert "1 of" in client.get("/releases/icons/2").text
    assert not any("Stale" in text for text in states(client.get("/releases/icons/2").text).values())


def test_a_relative_rule_shows_its_message_and_links_both_pieces_of_evidence(client: TestClient, world: World) -> None:
    rule = Rule("no worse than live", "recall@10", Tags(task="image_to_text", split="test"), no_worse_by=0.01,
                compare_with="live", why="Nothing may get worse unseen.")  # fmt: skip
    policy = Policy("icons", (rule,), 2)
    ours, theirs = world.final.evidence[0], world.early.evidence[0]
    reason = Reason(rule.name, "pass", "not_worse", "recall@10 against icons@1: not worse by 1 points", ours, theirs)
    decision = dataclasses.replace(
        world.final.decision, policy_digest=world.store.blobs.put(canonical(policy)), reasons=(reason,)
    )
    made = world.store.add_release("icons", world.final.model, [ours, theirs], decision, "Ada", "again")
    page = client.get(f"/releases/icons/{made.number}").text
    assert "Recall@10 against icons@1: not worse by 1 points." in page
    assert "% required" not in page, "a relative rule has no bound"
    assert f'href="/evidence/{ours}"' in page
    assert f'href="/evidence/{theirs}"' in page
