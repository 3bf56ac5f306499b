"""The licence engine: labelled pairs, the logic of AND, OR and unknown, the spellings, and the table itself."""

from __future__ import annotations

import re
import subprocess
import sys
import tomllib
from dataclasses import fields, replace
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from clerestory.core.codec import encode
from clerestory.core.errors import ConfigError
from clerestory.core.licences.expression import Reading, parse_licence
from clerestory.core.licences.policy import LicencePolicy, LicenceState, check_licence
from clerestory.core.licences.table import extended_table, licence_table, normal_name
from clerestory.core.licences.terms import (
    DUTY_LABELS,
    REASON_LABELS,
    UNKNOWN_REASONS,
    Duty,
    LicenceReason,
    Right,
    Scope,
)

CASES = tomllib.loads(Path(__file__).with_name("licence_cases.toml").read_text("utf-8"))["policy"]
PAIRS = [(group["settings"], *case) for group in CASES for case in group["cases"]]
PASSES, FAILS, UNKNOWN = LicenceState.PASSES, LicenceState.FAILS, LicenceState.UNKNOWN


def test_there_are_enough_pairs_and_none_twice() -> None:
    keys = [(str(given_settings), expression) for given_settings, expression, _, _ in PAIRS]
    assert len(set(keys)) == len(keys) >= 150


@pytest.mark.parametrize(("given_settings", "expression", "state", "reasons"), PAIRS)
def test_labelled_pair(given_settings: dict, expression: str, state: str, reasons: str) -> None:
    verdict = check_licence(expression, LicencePolicy(**given_settings))
    assert (verdict.state, list(verdict.reasons)) == (state, reasons.split())


def test_every_licence_and_exception_has_a_labelled_pair() -> None:
    def version(id_: str) -> str:
        return re.sub("-(only|or-later)$", "", id_)

    names = [name for _, expression, _, _ in PAIRS for name in parse_licence(expression).names]
    table = licence_table()
    of_family = {id_ for id_ in table.licences if re.match(r"CC-BY-.*\d$", id_)}  # see the test of the family
    assert not set(map(version, table.licences)) - {version(name.id) for name in names} - of_family
    assert len({name.exception for name in names} & set(table.exceptions)) >= 3


# --- unknown never passes


@pytest.mark.parametrize("reason", sorted(UNKNOWN_REASONS))
def test_each_way_of_being_unknown_never_passes(reason: LicenceReason) -> None:
    expressions = {
        "no_licence": "",
        "unreadable": "MIT OR OR MIT",
        "ambiguous": "other",
        "unknown_licence": "LicenseRef-x",
        "unknown_exception": "MIT WITH LLVM-exception",
        "unclear_rights": "no known copyright restrictions",
    }
    lenient = LicencePolicy(False, False, False, True, True, True, allow_unknown=True)
    verdict = check_licence(expressions[reason], lenient)
    assert (verdict.state, verdict.reasons) == (UNKNOWN, (reason,))
    assert not verdict.blocks(lenient)
    assert verdict.blocks(LicencePolicy())


KNOWN = sorted(licence_table().licences)
UNKNOWN_IDS = ["LicenseRef-x", "Sendmail", "foo", "other", "CC-BY", "MIT WITH LLVM-exception", "LicenseRef-Scancode"]
known = st.sampled_from(KNOWN)
unknown = st.sampled_from(UNKNOWN_IDS)
bounded = settings(deadline=None, max_examples=60)
policies = st.builds(LicencePolicy, *[st.booleans()] * 7)


def combined(leaves: st.SearchStrategy[str]) -> st.SearchStrategy[str]:
    return st.recursive(
        leaves,
        lambda inner: st.builds(lambda op, parts: "(" + f" {op} ".join(parts) + ")", st.sampled_from(("AND", "OR")),
                                st.lists(inner, min_size=2, max_size=4)),
        max_leaves=8,
    )  # fmt: skip


@bounded
@given(combined(known | unknown), unknown, policies)
def test_a_conjunction_with_an_unknown_licence_never_passes(expression: str, stranger: str, policy) -> None:
    for text in (f"{expression} AND {stranger}", f"{stranger} AND {expression}"):
        assert check_licence(text, policy).state != PASSES


@bounded
@given(combined(unknown), policies)
def test_an_expression_of_unknown_licences_is_unknown(expression: str, policy) -> None:
    assert check_licence(expression, policy).state == UNKNOWN


@bounded
@given(st.text(max_size=60), policies)
def test_any_text_has_a_verdict_and_passes_only_by_licences_of_the_table(text: str, policy) -> None:
    verdict = check_licence(text, policy)
    encode(verdict)
    if verdict.state == PASSES:
        assert verdict.licences
        assert all(id_.partition(" WITH ")[0] in licence_table().licences for id_ in verdict.licences)


@bounded
@given(st.lists(combined(known | unknown), min_size=2, max_size=4), policies)
def test_or_is_its_best_branch_and_and_its_worst(branches: list[str], policy) -> None:
    ranks = [check_licence(branch, policy).state.rank for branch in branches]
    assert check_licence(" OR ".join(branches), policy).state.rank == max(ranks)
    assert check_licence(" AND ".join(branches), policy).state.rank == min(ranks)


@bounded
@given(combined(known | unknown), policies, st.sampled_from([f.name for f in fields(LicencePolicy)][:7]))
def test_a_stricter_policy_never_passes_more(expression: str, policy, name: str) -> None:
    strict = replace(policy, **{name: not name.startswith("allow_")})
    lenient = replace(policy, **{name: name.startswith("allow_")})
    strict_verdict, lenient_verdict = check_licence(expression, strict), check_licence(expression, lenient)
    assert strict_verdict.state.rank <= lenient_verdict.state.rank
    if name == "allow_unknown":
        assert strict_verdict == lenient_verdict


@bounded
@given(combined(known | unknown), policies)
def test_a_verdict_explains_itself(expression: str, policy) -> None:
    verdict = check_licence(expression, policy)
    assert (verdict.state == PASSES) == (not verdict.obstacles)
    assert (verdict.state == UNKNOWN) == (bool(verdict.obstacles) and set(verdict.reasons) <= UNKNOWN_REASONS)
    assert check_licence(verdict.expression, policy) == replace(verdict, readings=())


# --- duties


@pytest.mark.parametrize(
    ("expression", "duties"),
    [
        ("CC0-1.0", ""),
        ("Unlicense", ""),
        ("MIT", "attribution licence_text"),
        ("Apache-2.0", "attribution licence_text state_changes"),
        ("BSD-3-Clause", "attribution licence_text no_endorsement"),
        ("CC-BY-2.0", "attribution licence_text"),
        ("CC-BY-4.0", "attribution licence_text state_changes"),
        ("CC-BY-ND-4.0", "attribution licence_text"),
        ("CC-BY-SA-4.0", "attribution licence_text state_changes share_alike"),
        ("GPL-3.0-only", "attribution licence_text state_changes source_code share_alike"),
        ("llama2", "attribution licence_text use_restrictions"),
        ("llama3.1", "attribution licence_text use_restrictions naming"),
        ("gemma", "attribution licence_text state_changes use_restrictions"),
        ("LicenseRef-scancode-falcon-2-11b-1.0", "attribution licence_text state_changes use_restrictions naming"),
        ("CDLA-Permissive-2.0", "licence_text"),
        ("MIT OR CC0-1.0", ""),
        ("MIT AND CC0-1.0", "attribution licence_text"),
        ("GPL-3.0-only OR MIT", "attribution licence_text"),
    ],
)
def test_duties_of_the_chosen_licences(expression: str, duties: str) -> None:
    assert list(check_licence(expression, LicencePolicy()).duties) == duties.split()


@pytest.mark.parametrize(
    ("expression", "scope"),
    [
        ("MPL-2.0", Scope.FILES),
        ("LGPL-2.1-only", Scope.LIBRARY),
        ("GPL-2.0-only", Scope.WORK),
        ("GPL-2.0-only WITH Classpath-exception-2.0", Scope.LIBRARY),
        ("GPL-2.0-only WITH Linux-syscall-note", Scope.WORK),
        ("AGPL-3.0-only", Scope.NETWORK),
        ("CC-BY-SA-4.0", Scope.ADAPTATIONS),
        ("ODbL-1.0", Scope.DATABASE),
        ("OFL-1.1", Scope.FONT),
    ],
)
def test_scope_of_share_alike(expression: str, scope: Scope) -> None:
    obligations = check_licence(expression, LicencePolicy(allow_share_alike=True)).obligations
    assert [each.scope for each in obligations if each.duty == Duty.SHARE_ALIKE] == [scope]


# --- spellings


@pytest.mark.parametrize(
    ("written", "id_"),
    [
        ("apache 2.0", "Apache-2.0"),
        ("CC BY 4.0", "CC-BY-4.0"),
        ("Creative Commons Attribution-NonCommercial-ShareAlike 2.0 Generic", "CC-BY-NC-SA-2.0"),
        ("GPL v3 or later", "GPL-3.0-or-later"),
        ("LGPL v2.1+", "LGPL-2.1-or-later"),
        ("GPL-2.0", "GPL-2.0-only"),
        ("GNU AGPLv3", "AGPL-3.0-only"),
        ("CC0-1.0+", "CC0-1.0"),
        ("llama3.1", "LicenseRef-scancode-llama-3.1-license-2024"),
        ("http://www.creativecommons.org/licenses/by-sa/2.5/", "CC-BY-SA-2.5"),
    ],
)
def test_a_spelling_is_read_and_the_reading_is_said(written: str, id_: str) -> None:
    verdict = check_licence(written, LicencePolicy())
    assert verdict.expression == id_
    assert verdict.readings == (Reading(written, id_),)


def test_the_id_in_other_case_is_no_reading() -> None:
    assert check_licence("mit AND cc-by-4.0", LicencePolicy()).readings == ()


def test_every_id_of_spdx_means_itself() -> None:
    """No normalisation may turn one licence into another."""
    from license_expression import get_spdx_licensing

    for key in get_spdx_licensing().known_symbols:
        (name,) = parse_licence(key).names
        assert name.id.casefold() == key.casefold() or key.casefold() in licence_table().names, key


@bounded
@given(st.sampled_from(KNOWN), st.sampled_from(["not ", "non-", "my ", "LicenseRef-", "DocumentRef-a:"]))
def test_a_word_before_a_licence_makes_it_another(id_: str, prefix: str) -> None:
    assert check_licence(prefix + id_, LicencePolicy()).state == UNKNOWN


@pytest.mark.parametrize(
    "suffix", ["-modified", " with changes", " (no commercial use)", " no AI training", " 7.0", "-NC"]
)
@pytest.mark.parametrize("id_", ["MIT", "Apache-2.0", "CC-BY-4.0", "CC0-1.0"])
def test_words_after_a_licence_make_it_another(id_: str, suffix: str) -> None:
    assert check_licence(id_ + suffix, LicencePolicy()).state == UNKNOWN


@pytest.mark.parametrize("text", ["MIT OR " * 400 + "MIT", "(" * 900 + "MIT" + ")" * 900, "MIT (" * 300, "x" * 10_000])
def test_long_and_deep_expressions_have_a_verdict(text: str) -> None:
    assert check_licence(text, LicencePolicy()).state in (UNKNOWN, PASSES)


def test_hints() -> None:
    def hint(text: str) -> str:
        return check_licence(text, LicencePolicy()).obstacles[0].hint

    assert "CC-BY-4.0" in hint("CC BY")
    assert "OR if one may be chosen" in hint("MIT, Apache-2.0")
    assert "CC-BY-NC-4.0" in hint("CC-BYNC-4.0")


# --- the table


def test_creative_commons_rows_follow_from_their_names() -> None:
    rows = [row for id_, row in licence_table().licences.items() if re.match(r"CC-BY", id_)]
    assert len(rows) == 32
    for row in rows:
        elements, version = re.match(r"CC-((?:BY|NC|ND|SA|-)+)-(\d\.\d)", row.id).groups()
        parts = elements.split("-")
        assert (Right.COMMERCIAL_USE in row.rights) == ("NC" not in parts)
        assert (Right.MODIFICATION in row.rights) == ("ND" not in parts)
        assert Right.DISTRIBUTION in row.rights
        assert (row.share_alike == Scope.ADAPTATIONS) == ("SA" in parts)
        assert (Duty.STATE_CHANGES in row.duties) == (version >= "3.0" and "ND" not in parts)
        assert {Duty.ATTRIBUTION, Duty.LICENCE_TEXT} <= set(row.duties)
        assert f"/{version}/" in row.url


def test_rows_are_complete() -> None:
    table = licence_table()
    for row in table.licences.values():
        assert row.url.startswith(("https://", "http://www.wtfpl.net"))
        assert row.rights or row.limited or row.unclear or row.group in ("proprietary", "rights statement")
        assert set(row.compatible) <= set(table.licences)
        assert Duty.SHARE_ALIKE not in row.duties  # it has a column of its own
    for row in table.exceptions.values():
        assert set(row.accompanies) <= set(table.licences)
    assert set(map(normal_name, table.ambiguous)) | {"licenseref-openrail-m"} >= set(table.ambiguous)
    assert not set(table.ambiguous) & set(table.names)
    assert set(DUTY_LABELS) == set(Duty)
    assert set(REASON_LABELS) == set(LicenceReason)


def test_a_table_of_ones_own(tmp_path: Path) -> None:
    file = tmp_path / "agency.toml"
    file.write_text(
        '[licence."LicenseRef-agency-2026"]\nname = "Agreement with an agency"\ngroup = "content"\n'
        'url = "https://example.org/agreement"\nrights = ["commercial_use", "modification", "distribution"]\n'
        'duties = ["attribution"]\nspellings = ["royalty free"]\n'
    )
    table = extended_table(file)
    assert check_licence("LicenseRef-agency-2026", LicencePolicy(), table).state == PASSES
    assert check_licence("Royalty Free", LicencePolicy(), table).state == PASSES
    assert check_licence("MIT AND royalty-free", LicencePolicy(), table).state == PASSES
    assert check_licence("royalty free", LicencePolicy()).state == UNKNOWN
    assert table.digest != licence_table().digest


@pytest.mark.parametrize(
    ("content", "words"),
    [
        ("[licence.x", "cannot be read"),
        ('[licence.x]\nname = "x"', "lacks the setting"),
        ('[licence.x]\nname="x"\ngroup="g"\nurl="u"\nrights=["use"]\nduties=[]', "must be commercial_use"),
        ('[licence.x]\nname="x"\ngroup="g"\nurl="u"\nrights=[]\nduties=["pay"]', "must be attribution"),
        ('[licence.x]\nname="x"\ngroup="g"\nurl="u"\nrights=[]\nduties=[]\nends_at=["sale"]', "training"),
        ('[licence.x]\nname="x"\ngroup="g"\nurl="u"\nright=[]\nrights=[]\nduties=[]', "has no setting 'right'"),
        ('[licence.x]\nname="x"\ngroup="g"\nurl="u"\nrights=["distribution", "distribution"]\nduties=[]', "twice"),
        ('[licence.x]\nname="x"\ngroup="g"\nurl="u"\nrights=[]\nduties=[]\nspellings=["MIT"]', "same name"),
    ],
)  # fmt: skip
def test_a_faulty_table_is_one_sentence(tmp_path: Path, content: str, words: str) -> None:
    (tmp_path / "own.toml").write_text(content)
    with pytest.raises(ConfigError, match=re.escape(words)):
        extended_table(tmp_path / "own.toml")


def test_importing_the_engine_is_cheap() -> None:
    code = (
        "import sys, clerestory.core.licences.chain;"
        "print(sorted({'numpy', 'torch', 'license_expression', 'boolean'} & set(sys.modules)))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def test_many_different_texts_are_read_quickly() -> None:
    import time

    start = time.process_time()
    for i in range(2000):
        check_licence(f"licence number {i}", LicencePolicy())
    assert time.process_time() - start < 5
