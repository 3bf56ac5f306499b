"""Policies: the included one, and those that are refused."""

from __future__ import annotations

from pathlib import Path

import pytest

from clerestory.core.errors import ConfigError
from clerestory.stages.release import load_policy

POLICY = load_policy()


def test_the_shipped_policy_asks_for_both_directions_both_splits_and_speed() -> None:
    rules = {(rule.metric, *sorted(rule.where.items())): rule for rule in POLICY.rules if not rule.is_relative}
    recall = [
        ("recall@10", ("split", split), ("task", task))
        for split, task in (("test", "image_to_text"), ("test_style", "image_to_text"), ("test", "text_to_image"))
    ]
    assert all(rules[key].criterion == "interval_bound" and rules[key].at_least for key in recall)
    assert rules["latency_p95", ("operation", "embed_image"), ("task", "latency")].at_most == 200
    assert all(rule.why for rule in POLICY.rules)


RULE = '[[rules]]\nname = "r"\nmetric = "median_rank"\n'
SHARE_RULE = RULE.replace('"median_rank"', '"recall@10"')
SECOND_RULE = RULE.replace('name = "r"', 'name = "s"')


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ('name = "p"\nrules = []', "has no rules"),
        (f'name = "p"\n{RULE}', "'r' has 0 bounds instead of one"),
        (f'name = "p"\n{RULE}at_least = 1\nat_most = 2', "'r' has 2 bounds instead of one"),
        (f'name = "p"\n{RULE}at_least = nan', "'r' has at_least = nan"),
        (f'name = "p"\n{RULE}at_least = inf', "'r' has at_least = inf"),
        (f'name = "p"\n{SHARE_RULE}at_least = 45', "'r' has at_least = 45, but recall@10 is a share"),
        (f'name = "p"\n{SHARE_RULE}at_most = -3', "'r' has at_most = -3, but recall@10 is a share"),
        (f'name = "p"\n{RULE}at_least = 1\n{RULE}at_least = 2', "2 rules of the policy p are called 'r'"),
        (f'name = "p"\n{RULE}atleast = 1', r"rule 1 has no setting 'atleast' — did you mean at_least"),
        (f'name = "p"\n{RULE}at_least = 1\ncriterion = "vlaue"', "did you mean value"),
        (f'name = "p"\n{RULE}at_least = 1\nevidence = "evalute"', "did you mean evaluate"),
        (
            f'name = "p"\n{RULE.replace("median_rank", "median_rnk")}at_least = 1',
            "not exist — did you mean median_rank",
        ),
        (
            f'name = "p"\n{RULE.replace("median_rank", "recal@10")}at_least = 1',
            "does not exist — did you mean recall@10",
        ),
        (
            f'name = "p"\n{RULE}at_most = 1\n{SECOND_RULE}at_least = 2',
            r"rule 2 \('s': median_rank at_least = 2\) and rule 1 \('r': at_most = 1\) contradict each other",
        ),
        ("name = ", "is not valid TOML"),
    ],
)
def test_a_policy_that_could_not_decide_is_refused_with_its_place(tmp_path: Path, text: str, message: str) -> None:
    file = tmp_path / "policy.toml"
    file.write_text(text, encoding="utf-8")
    with pytest.raises(ConfigError, match=message):
        load_policy(file)


def test_a_policy_file_that_is_not_there(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="cannot be read: there is no such file"):
        load_policy(tmp_path / "no.toml")
