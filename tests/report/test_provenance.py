"""What a model was made from: always the data it was trained on, never the data it was evaluated on."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest
from tests.report.world import World, make_data

from clerestory.apps.starter import add_starter
from clerestory.core.codec import Facts, Tags
from clerestory.core.licences.policy import LicencePolicy
from clerestory.core.licences.terms import Step
from clerestory.core.release import Event
from clerestory.core.sample import Dataset, Sample
from clerestory.report import format
from clerestory.report.chance import at_chance
from clerestory.report.chapters.provenance import NOT_RECORDED, provenance_view
from clerestory.report.collect import collect
from clerestory.report.documents.bom import ml_bom
from clerestory.report.licence_chain import licence_chain
from clerestory.report.model import Basis, Component, LicenceShare
from clerestory.report.page import build
from clerestory.report.provenance import components_of
from clerestory.report.render import render_html, render_markdown
from clerestory.store import Store


def retrained(world: World, digest: str, **facts: object) -> None:
    """Say that the final model was trained on other data."""
    (trained,) = world.store.find_evidence("train", model=world.final.model)
    subject = replace(trained.subject, data=digest)
    known = Facts({**trained.facts, **facts})  # type: ignore[dict-item]
    world.store.put_evidence(replace(trained, subject=subject, facts=known, created="2027-01-01T00:00:00+00:00"))


def test_the_starter_was_made_from_pictograms_and_a_text_tower(tmp_path: Path) -> None:
    store = Store(tmp_path)
    data, tower, *of_tower = components_of(store, add_starter(store), make_data())
    assert (data.role, data.name, data.images) == ("training data", "pictograms", 71_830)
    assert sum(each.images for each in data.licences) == 71_830
    assert {each.licence: each.images for each in data.licences}["CC-BY-SA-4.0"] == 890
    assert tower.role == "text tower"
    assert tower.licences == (LicenceShare("Apache-2.0", 0),)
    assert {each.part_of for each in of_tower} == {tower.key}
    assert {each.basis for each in (data, tower, *of_tower)} == {Basis.DECLARED}, "it was trained elsewhere"
    shown = provenance_view((data, tower, *of_tower))
    assert "71,830 pictures of pictograms" in shown.lines[0]
    assert "as declared by the package Clerestory" in shown.lines[0]
    assert shown.answer.word == "no"
    assert "890 pictures of pictograms under CC-BY-SA-4.0" in shown.answer.sources[0]


@pytest.mark.parametrize("name", ["holiday photos", "icons", ""])
def test_training_data_is_never_that_of_the_evaluation(own_world: World, name: str) -> None:
    retrained(own_world, "a" * 64, data=name, images=31_415, licences=("MIT",), licence_images=(31_415,))
    page = build(collect(own_world.store, "icons@2", own_world.data))
    assert page.summary[0].label == "Made from"
    assert "31,415 pictures" in page.summary[0].lines[0]
    assert any("This is not the dataset it was trained on" in line for row in page.summary for line in row.lines)
    assert page.data is not None
    assert page.data.lines[0].startswith("84 pictures"), "the data of the evaluation"
    splits = {row[0]: row[1] for row in page.data.tables[0].rows}
    assert splits["train"] == "not measured"
    assert splits["test"] == "measured here"
    html = render_html(page)
    assert html.index("31,415 pictures") < html.index('id="why"') < html.index("84 pictures")
    assert "31,415 pictures" in render_markdown(page)


def test_licences_are_counted_over_the_training_split_only(own_world: World) -> None:
    (data,) = components_of(own_world.store, own_world.final.model, own_world.data)[:1]
    train = [sample for sample in own_world.data if sample.split == "train"]
    assert sum(each.images for each in data.licences) == len(train) < len(own_world.data)


def test_a_fine_tuned_model_names_its_base_and_the_data_of_the_base(own_world: World) -> None:
    store = own_world.store
    (trained,) = store.find_evidence("train", model=own_world.final.model)
    base = add_starter(store)
    facts = Facts(base="starter", base_model=base, data="shop", train_samples=250)
    tuned = replace(trained, kind="tune", subject=replace(trained.subject, model="c" * 64, data="d" * 64), facts=facts)
    store.put_evidence(tuned)
    parts = components_of(store, "c" * 64)
    assert [(part.role, part.name, part.images) for part in parts][:3] == [
        ("training data", "shop", 250),
        ("base model", "starter", 0),
        ("training data", "pictograms", 71_830),
    ]
    assert parts[2].note == "of the base model"
    assert parts[3].role == "text tower"
    assert parts[1].key == parts[2].part_of == parts[3].part_of
    assert any("shop, without a recorded licence" in each for each in provenance_view(parts).answer.sources)


def test_models_that_name_one_another_as_base_end(own_world: World) -> None:
    (trained,) = own_world.store.find_evidence("train", model=own_world.final.model)
    for model, base in (("c" * 64, "d" * 64), ("d" * 64, "c" * 64)):
        facts = Facts(base=base, base_model=base, data="shop", train_samples=1)
        subject = replace(trained.subject, model=model)
        own_world.store.put_evidence(replace(trained, kind="tune", subject=subject, facts=facts))
    roles = [part.role for part in components_of(own_world.store, "c" * 64)]
    assert roles.count("base model") == 2


def test_a_model_from_elsewhere_says_that_nothing_is_recorded(tmp_path: Path) -> None:
    assert components_of(Store(tmp_path), "e" * 64) == ()
    assert provenance_view(()).lines == (NOT_RECORDED,)


@pytest.mark.parametrize(
    ("card", "licence"),
    [
        ("---\nlicense: mit\ntags: [a]\n---\n# Model\n", "mit"),
        ('---\nlanguage: en\nlicense: "apache-2.0"\n---\n', "apache-2.0"),
        ("# Model\nlicense: mit\n", ""),
        ("", ""),
    ],
)
def test_the_licence_of_a_base_model_is_that_of_its_card(
    own_world: World, tmp_path: Path, card: str, licence: str
) -> None:
    folder = tmp_path / "base"
    folder.mkdir()
    (folder / "config.json").write_text(json.dumps({"model_type": "clip"}))
    (folder / "README.md").write_text(card)
    base = own_world.store.put_model(folder)
    (trained,) = own_world.store.find_evidence("train", model=own_world.final.model)
    facts = Facts(base="hf:org/name", base_model=base, data="shop", train_samples=9)
    subject = replace(trained.subject, model="f" * 64)
    own_world.store.put_evidence(replace(trained, kind="tune", subject=subject, facts=facts))
    (found,) = [part for part in components_of(own_world.store, "f" * 64) if part.role == "base model"]
    assert found.licences == (LicenceShare(licence, 0),)


def test_a_model_from_elsewhere_is_what_its_card_declares(tmp_path: Path) -> None:
    folder = tmp_path / "model"
    folder.mkdir()
    (folder / "config.json").write_text(json.dumps({"model_type": "clip"}))
    (folder / "README.md").write_text(
        "---\nlicense: other\nlicense_name: llama3.1\ndatasets: [laion400m, org/photos]\nbase_model: org/base\n---\n"
    )
    store = Store(tmp_path / "home")
    digest = store.put_model(folder)
    source = Tags(source="hf:org/name")
    store.journal.append(Event("model_added", digest, "ana", "for the shop", "2027-01-02T03:04:05+00:00", source))
    itself, first, second, base = components_of(store, digest)
    assert (itself.role, itself.name, itself.licences) == ("model", "hf:org/name", (LicenceShare("llama3.1", 0),))
    assert (itself.added_by, itself.added) == ("ana", "2027-01-02T03:04:05+00:00")
    assert [first.name, second.name, base.name] == ["laion400m", "org/photos", "org/base"]
    assert {part.basis for part in (itself, first, second, base)} == {Basis.DECLARED}
    shown = provenance_view((itself, first, second, base))
    assert "brought in by ana on 2 January 2027, 03:04 UTC from hf:org/name" in shown.components[0].facts
    assert all("as declared by" in part.facts for part in shown.components)
    assert shown.answer.word == "no", "the licence of Llama grants commercial use within a limit"


@pytest.mark.parametrize(
    ("source", "name"),
    [
        ("/srv/models/mine", "mine"),
        ("./mine", "mine"),
        ("hf:./mine", "mine"),
        ("hf:org/mine", "hf:org/mine"),
        ("photos", "photos"),
    ],
)
def test_a_model_from_a_folder_is_named_without_the_path(source: str, name: str, tmp_path: Path) -> None:
    (tmp_path / "model").mkdir()
    (tmp_path / "model/config.json").write_text("{}")
    store = Store(tmp_path / "home")
    digest = store.put_model(tmp_path / "model")
    store.journal.append(Event("model_added", digest, "ana", "", "2027-01-02T03:04:05+00:00", Tags(source=source)))
    (itself,) = components_of(store, digest)
    assert itself.name == name
    data = replace(itself, role="training data", source=source)
    bill = ml_bom(replace(collect(store, digest), components=(data,))).decode()
    assert ("/srv" in bill, "./mine" in bill) == (False, False)


def test_a_card_without_licence_leaves_the_answer_open(tmp_path: Path) -> None:
    folder = tmp_path / "model"
    folder.mkdir()
    (folder / "config.json").write_text("{}")
    (folder / "README.md").write_text("---\n: [\n---\n")
    store = Store(tmp_path / "home")
    parts = components_of(store, store.put_model(folder))
    assert [(part.role, part.licences) for part in parts] == [("model", (LicenceShare("", 0),))]
    answer = provenance_view(parts).answer
    assert answer.word == "unknown"
    assert any("training data: nothing is recorded" in line for line in answer.sources)


def test_data_say_who_brought_them_in(own_world: World) -> None:
    event = Event("data_added", "icons", "ben", "", "2027-02-03T00:00:00+00:00", Tags(digest="a" * 64, source="./shop"))
    own_world.store.journal.append(event)
    retrained(own_world, "a" * 64, data="shop", images=5, licences=("MIT",), licence_images=(5,))
    data = components_of(own_world.store, own_world.final.model)[0]
    assert (data.basis, data.added_by, data.source) == (Basis.RECORDED, "ben", "./shop")
    fixed = Tags(digest="a" * 64, made_from="b" * 64, parent="shop")
    own_world.store.journal.append(Event("data_fixed", "shop2", "eve", "", "2027-02-04T00:00:00+00:00", fixed))
    data = components_of(own_world.store, own_world.final.model)[0]
    assert (data.added_by, data.source) == ("eve", "shop (digest bbbbbbbbbbbb) by a fix")
    assert "recorded by this store" in provenance_view((data,)).components[0].facts


def test_a_head_on_photos_owes_what_photos_was_made_from(own_world: World) -> None:
    (trained,) = own_world.store.find_evidence("train", model=own_world.final.model)
    facts = Facts(base="photos", data="shop", train_samples=9, licences=("MIT",), licence_images=(9,))
    subject = replace(trained.subject, model="f" * 64)
    own_world.store.put_evidence(replace(trained, kind="tune", subject=subject, facts=facts))
    parts = components_of(own_world.store, "f" * 64)
    base = next(part for part in parts if part.role == "base model" and part.name == "photos")
    network = next(part for part in parts if part.name.startswith("EfficientNet-Lite2"))
    imagenet = next(part for part in parts if part.name.startswith("ImageNet"))
    assert (base.part_of, network.part_of, imagenet.part_of) == ("", base.key, network.key)
    chain = licence_chain(parts, LicencePolicy())
    (blocked,) = [link for link in chain.blocking if link.component == imagenet]
    assert len(blocked.source.path) == 4, "from ImageNet through the network and photos to the model"


@pytest.mark.parametrize(
    ("licences", "propagates", "state"),
    [
        ((LicenceShare("MIT", 3),), ("training",), "passes"),
        ((LicenceShare("MIT", 3), LicenceShare("CC-BY-SA-4.0", 1)), ("training",), "fails"),
        ((LicenceShare("MIT", 3), LicenceShare("CC-BY-SA-4.0", 1)), (), "passes"),
        ((LicenceShare("MIT", 3), LicenceShare("", 1)), (), "unknown"),
        ((), (), "unknown"),
    ],
)
def test_the_worst_licence_of_the_data_reaches_the_model(
    licences: tuple[LicenceShare, ...], propagates: tuple[Step, ...], state: str
) -> None:
    part = Component("training data", "shop", "d" * 64, 4, licences)
    assert licence_chain((part,), LicencePolicy(propagates=propagates)).state == state


def test_duties_reach_the_output_as_far_as_the_policy_says() -> None:
    part = Component("training data", "shop", "d" * 64, 4, (LicenceShare("CC-BY-SA-4.0", 1),))
    assert licence_chain((part,), LicencePolicy(), "output").state == "fails"
    model_only = LicencePolicy(propagates=("training",))
    assert licence_chain((part,), model_only, "output").state == "passes"
    assert licence_chain((part,), model_only).state == "fails"


def test_nothing_passes_without_known_training_data() -> None:
    tower = Component("text tower", "tower", "e" * 64, 0, (LicenceShare("MIT", 0),))
    assert licence_chain((tower,), LicencePolicy()).state == "unknown"
    assert licence_chain((), LicencePolicy()).state == "unknown"


@pytest.mark.parametrize(
    ("licence", "words"),
    [
        ("MIT", "use freely: credit the authors, pass on the licence or its address"),
        ("apache-2.0", "use freely: credit the authors, pass on the licence or its address, state changes"),
        ("CC0-1.0", "use freely, no conditions"),
        ("CC-BY-2.0", "use freely: credit the authors, pass on the licence or its address"),
        ("CC-BY-NC-4.0", "no commercial use: credit the authors, pass on the licence or its address, state changes"),
        (
            "CC-BY-NC-ND-4.0",
            "no commercial use, no changed works: credit the authors, pass on the licence or its address",
        ),
        (
            "cc-by-sa-3.0",
            "use freely: credit the authors, pass on the licence or its address, state changes, "
            "share under the same licence",
        ),
        ("LicenseRef-flickr-no-known-copyright-restrictions", "its text does not say what is allowed"),
        ("", "no licence is recorded; do not assume one"),
        ("LicenseRef-house", "read the licence; its conditions are not known here"),
    ],
)
def test_duties_follow_from_the_licence(licence: str, words: str) -> None:
    assert format.licence_words(licence) == words


def test_restricted_and_unknown_licences_stand_in_the_way() -> None:
    part = Component("training data", "web", "", 3, (LicenceShare("CC-BY-NC-4.0", 2), LicenceShare("", 1)))
    answer = provenance_view((part,)).answer
    assert answer.word == "no"
    restricted, unknown = answer.sources
    assert "CC-BY-NC-4.0" in restricted
    assert "1 picture" in unknown


def test_all_splits_count_where_there_are_none() -> None:
    samples = [Sample(f"s{i}", str(i), licence="MIT" if i else "") for i in range(3)]
    assert Dataset("d", samples, lambda _: b"").training_licences() == {"MIT": 2, "": 1}


def test_a_model_at_chance_level_is_called_so_first(own_world: World) -> None:
    store = own_world.store
    (evaluation,) = store.find_evidence("evaluate", model=own_world.final.model)[:1]
    guessed = [
        replace(m, value=0.02, interval=replace(m.interval, low=0.001, high=0.05))
        if m.interval is not None and m.name.startswith("recall@")
        else m
        for m in evaluation.measurements
    ]
    levels = {f"chance.{m.name}.{m.slice['task']}.{m.slice['split']}": 0.02 for m in guessed if m.name[:7] == "recall@"}
    poor = replace(evaluation, measurements=tuple(guessed), facts=Facts({**evaluation.facts, **levels}))
    data = collect(store, "icons@2", own_world.data)
    records = tuple(
        replace(r, evidence=poor) if r.evidence.kind == "evaluate" and r.evidence.subject == evaluation.subject else r
        for r in data.evidence
    )
    page = build(replace(data, evidence=records))
    assert "this is no better than guessing" in page.highlights[0].meaning
    (row,) = [row for row in page.summary if row.label == "At chance level"]
    assert "image to text (test)" in row.lines[0]
    assert "chance level" in page.notices[0]
    assert not any(row.label == "At chance level" for row in build(data).summary)


def test_chance_needs_the_lower_bound_and_a_direction(own_world: World) -> None:
    (evaluation,) = own_world.store.find_evidence("evaluate", model=own_world.final.model)[:1]
    m = next(m for m in evaluation.measurements if m.interval is not None and m.direction == "higher")
    assert m.interval is not None
    assert at_chance(m, m.interval.low)
    assert not at_chance(m, m.interval.low - 0.01)
    assert not at_chance(m, None)
    assert not at_chance(replace(m, direction="lower"), m.interval.high)


def test_what_was_not_evaluated_is_one_line(own_world: World) -> None:
    page = build(collect(own_world.store, "icons@2", own_world.data))
    skipped = [chapter for chapter in page.chapters if not chapter.is_measured]
    assert skipped, "this world has no fault injection"
    html = render_html(page)
    assert html.count('id="not-evaluated"') == 1
    assert all(f'<h2 id="{chapter.anchor}-title">' not in html for chapter in skipped)
    (row,) = [row for row in page.summary if row.label == "Not evaluated"]
    assert len(row.lines) == 1
    assert all(chapter.short.lower() in row.lines[0] for chapter in skipped)
