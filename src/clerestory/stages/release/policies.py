"""Policies: TOML files with the rules that a model must satisfy."""

from __future__ import annotations

import math
import tomllib
from collections import Counter
from importlib.resources import files
from pathlib import Path

from clerestory.core.codec import decode
from clerestory.core.errors import ConfigError, closest
from clerestory.core.provenance import STAGE_ROOMS
from clerestory.core.release import Policy, Rule


def load_policy(path: Path | str | None = None) -> Policy:
    """Read a policy; the one that comes with Clerestory when ``path`` is None.

    Raises:
        ConfigError: no such file, not TOML, an unknown key, no rule at all, two rules of one name, or a rule without
            exactly one bound; names the place.
    """
    source = Path(path) if path is not None else files(__package__).joinpath("policy.toml")
    try:
        data = tomllib.loads(source.read_text(encoding="utf-8"))
    except OSError as error:
        raise ConfigError(
            f"the policy {path} cannot be read: {error.strerror}", "give the path of a TOML file"
        ) from error
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise ConfigError(f"the policy {path} is not valid TOML: {error}", "correct the file") from error
    policy = decode(Policy, data, f"the policy {path or 'policy.toml'}")
    check_policy(policy)
    return policy


def check_policy(policy: Policy) -> None:
    """Raise ``ConfigError`` for a policy that could not decide anything."""
    if not policy.rules:
        raise ConfigError(f"the policy {policy.name} has no rules", "add one, as a [[rules]] table")
    name, count = Counter(rule.name for rule in policy.rules).most_common(1)[0]
    if count > 1:
        raise ConfigError(f"{count} rules of the policy {policy.name} are called {name!r}", "give each its own name")
    for rule in policy.rules:
        _check_rule(rule)


def _check_rule(rule: Rule) -> None:
    bounds = [bound for bound in (rule.at_least, rule.at_most) if bound is not None]
    if len(bounds) != 1 or not math.isfinite(bounds[0]):
        raise ConfigError(f"the rule {rule.name!r} needs exactly one bound", "give it at_least or at_most, a number")
    if rule.evidence not in STAGE_ROOMS:
        known = ", ".join(STAGE_ROOMS)
        near = closest(rule.evidence, STAGE_ROOMS)
        raise ConfigError(f"the rule {rule.name!r} reads evidence {rule.evidence!r}", f"it takes one of {known}", near)
