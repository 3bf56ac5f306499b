"""Policies: TOML files with the rules that a model must satisfy."""

from __future__ import annotations

import math
import tomllib
from collections import Counter
from importlib.resources import files
from itertools import permutations
from pathlib import Path

from clerestory.core.codec import decode
from clerestory.core.errors import ConfigError, closest
from clerestory.core.files import read_problem
from clerestory.core.release import Policy, Rule
from clerestory.core.stage import stages
from clerestory.stats.metrics import metric, registered

BOUNDS = ("at_least", "at_most", "no_worse_by")


def load_policy(path: Path | str | None = None) -> Policy:
    """Read a policy; the default policy of Clerestory if ``path`` is None.

    Raises:
        ConfigError: no such file, not TOML, an unknown key, no rules, two rules with the same name, or a rule without
            exactly one bound, a metric that does not exist, or two rules that contradict each other; names the
            location.
    """
    source = Path(path) if path is not None else files(__package__).joinpath("policy.toml")
    try:
        data = tomllib.loads(source.read_text(encoding="utf-8"))
    except OSError as error:
        raise ConfigError(f"the policy {path} cannot be read: {read_problem(error)}", "name a TOML file") from error
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise ConfigError(f"the policy {path} is not valid TOML: {error}", "correct the file") from error
    policy = decode(Policy, data, f"the policy {path or 'policy.toml'}")
    check_policy(policy)
    return policy


def check_policy(policy: Policy) -> None:
    """Raise ``ConfigError`` for a policy without valid rules."""
    if not policy.rules:
        raise ConfigError(f"the policy {policy.name} has no rules", "add one, as a [[rules]] table")
    name, count = Counter(rule.name for rule in policy.rules).most_common(1)[0]
    if count > 1:
        raise ConfigError(f"{count} rules of the policy {policy.name} are called {name!r}", "give each a unique name")
    for rule in policy.rules:
        _check_rule(rule)
    _check_together(policy)


def _check_together(policy: Policy) -> None:
    """Raise ``ConfigError`` for two rules about one measurement that no value satisfies."""
    for (i, low), (k, high) in permutations(enumerate(policy.rules, 1), 2):
        same = (low.metric, low.where, low.evidence) == (high.metric, high.where, high.evidence)
        if same and low.at_least is not None and high.at_most is not None and low.at_least > high.at_most:
            raise ConfigError(
                f"rule {i} ({low.name!r}: {low.metric} at_least = {low.at_least:g}) and rule {k} "
                f"({high.name!r}: at_most = {high.at_most:g}) contradict each other",
                "change one of the two bounds: no value satisfies both",
            )


def _check_metric(rule: Rule) -> None:
    """Raise ``ConfigError`` for a metric that nobody registered."""
    if metric(rule.metric).registered:
        return
    known = [each.name for each in registered().values() if not each.is_template]
    known += [each.at(k).name for each in registered().values() if each.is_template for k in (1, 5, 10)]
    raise ConfigError(
        f"the rule {rule.name!r} names the metric {rule.metric!r}, which does not exist",
        "docs/reference/metrics.md lists the metrics",
        closest(rule.metric, dict.fromkeys(known)),
    )


def _check_rule(rule: Rule) -> None:
    bounds = {name: bound for name in BOUNDS if (bound := getattr(rule, name)) is not None}
    if len(bounds) != 1:
        raise ConfigError(
            f"the rule {rule.name!r} has {len(bounds)} bounds instead of one",
            f"give it one of {', '.join(BOUNDS)}",
        )
    ((setting, bound),) = bounds.items()
    if not math.isfinite(bound):
        raise ConfigError(f"the rule {rule.name!r} has {setting} = {bound:g}", "give it a finite number")
    _check_metric(rule)
    if metric(rule.metric).unit == "share" and abs(bound) > 1:  # gains and gaps may be negative
        message = f"the rule {rule.name!r} has {setting} = {bound:g}, but {rule.metric} is a share"
        raise ConfigError(message, "give it a number from 0 to 1, such as 0.25 for 25 %")
    _check_relative(rule)
    known = [kind for spec in stages().values() for kind in spec.gate_kinds]
    if rule.evidence not in known:
        raise ConfigError(
            f"the rule {rule.name!r} reads evidence {rule.evidence!r}",
            f"it accepts {' or '.join(known)}",
            closest(rule.evidence, known),
        )


def _check_relative(rule: Rule) -> None:
    """Raise ``ConfigError`` for an incomplete relative rule, and for a bound with settings of relative rules."""
    if rule.no_worse_by is None:
        if rule.compare_with or rule.each_group:
            setting = "compare_with" if rule.compare_with else "each_group"
            raise ConfigError(
                f"the rule {rule.name!r} has {setting} but no margin", "give it no_worse_by, such as 0.01"
            )
        return
    if not rule.compare_with:
        raise ConfigError(f"the rule {rule.name!r} has a margin but no compare_with", 'give it compare_with = "live"')
    if rule.no_worse_by <= 0:
        message = f"the rule {rule.name!r} has the margin {rule.no_worse_by:g}, which allows no random variation"
        raise ConfigError(message, "give it a no_worse_by above 0, such as 0.01")
    if not 0 < rule.alpha < 0.5:
        raise ConfigError(
            f"the rule {rule.name!r} has alpha = {rule.alpha:g}",
            "it accepts a share above 0 and below 0.5, such as 0.01",
        )
