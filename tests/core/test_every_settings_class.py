"""Every settings class of every stage checks itself when it is built, so Python and files are refused alike."""

from __future__ import annotations

import importlib
import math
import pkgutil
from dataclasses import MISSING, fields, is_dataclass, replace
from decimal import Decimal
from typing import Any, Literal, get_args, get_origin

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import clerestory.stages
from clerestory.core.errors import ConfigError
from clerestory.core.licences.policy import LicencePolicy
from clerestory.core.release import ApprovalPolicy
from clerestory.core.settings import MAX_INTEGER, _accepted, _items, setting_range, setting_types
from clerestory.core.stage import import_object, stages
from clerestory.stages.evaluate.suites.cost.prices import EndpointPrice, MachinePrice
from clerestory.stages.evaluate.suites.latency.load import LoadConfig
from clerestory.stages.evaluate.tasks.task import Baseline, Task
from clerestory.stages.train.monitor.thresholds import MonitorThresholds

VALUES = (
    MonitorThresholds(),
    LicencePolicy(),
    ApprovalPolicy(1),
    LoadConfig(),
    MachinePrice(1.0),
    EndpointPrice(),
    Task("t", "zero_shot", "icons", label="concept", prompts=("{label}",)),
    Baseline("m", "accuracy", 0.5, 0.4, 0.6),
)


def modules_named_config() -> list[str]:
    names = [m.name for m in pkgutil.walk_packages(clerestory.stages.__path__, "clerestory.stages.")]
    return [name for name in names if name.rsplit(".", 1)[1].endswith(("config", "model_overrides"))]


def settings_classes() -> dict[type, Any]:
    """A valid value of every settings class: of the stages, of their ``config`` modules, and of what those contain."""
    found: dict[type, Any] = {type(value): value for value in VALUES}
    stage_classes = [import_object(spec.config) for spec in stages().values() if spec.config]
    modules = [importlib.import_module(name) for name in modules_named_config()]
    own = [c for m in modules for c in vars(m).values() if getattr(c, "__module__", "") == m.__name__]
    classes = [c for c in own if is_dataclass(c) and isinstance(c, type)]
    for each in (*stage_classes, *classes):
        assert isinstance(each, type)
        if all(f.default is not MISSING or f.default_factory is not MISSING for f in fields(each)):
            found[each] = each()
    return found


EVERY = settings_classes()
EVERY_FIELD = [(kind, name) for kind in EVERY for name in setting_types(kind)]


def kinds_of(kind: type, name: str) -> list[Any]:
    return _accepted(setting_types(kind)[name])


def numeric(kind: type, name: str) -> bool:
    return bool({int, float} & set(kinds_of(kind, name)))


def refused(kind: type, name: str, value: Any) -> None:
    with pytest.raises(ConfigError) as error:
        replace(EVERY[kind], **{name: value})
    assert name in error.value.message
    assert error.value.fix or " must be " in error.value.message, "the problem or the fix names the remedy"


def test_the_stages_and_their_inner_tables_are_among_the_classes() -> None:
    names = {kind.__name__ for kind in EVERY}
    assert names >= {"TrainConfig", "ModelOverrides", "SelfSupervision", "TuneConfig", "EvaluateConfig"}
    assert names >= {"SelfTestConfig", "CompareConfig", "LoadConfig"}


@pytest.mark.parametrize(("kind", "name"), [f for f in EVERY_FIELD if numeric(*f)])
def test_a_number_that_is_not_finite_huge_or_of_another_type_is_refused(kind: type, name: str) -> None:
    for value in (math.nan, math.inf, -math.inf, np.float32("nan"), Decimal("NaN"), 10**17, -(10**400), True, "1", [1]):
        refused(kind, name, value)
    if float not in kinds_of(kind, name):
        refused(kind, name, 1.5)
        refused(kind, name, 1.0)


@pytest.mark.parametrize(("kind", "name"), [f for f in EVERY_FIELD if setting_range(*f) is not None])
@settings(deadline=None, max_examples=25)
@given(st.one_of(st.integers(-MAX_INTEGER, MAX_INTEGER), st.floats(allow_nan=False, allow_infinity=False)))
def test_a_number_outside_its_range_is_refused_and_only_then(kind: type, name: str, value: float) -> None:
    bounds = setting_range(kind, name)
    assert bounds is not None
    if not numeric(kind, name):  # the range is that of the items of a tuple
        return
    if value not in bounds or (isinstance(value, float) and float not in kinds_of(kind, name)):
        refused(kind, name, value)


@pytest.mark.parametrize(("kind", "name"), EVERY_FIELD)
def test_text_and_choices_that_do_not_exist_are_refused(kind: type, name: str) -> None:
    if str not in kinds_of(kind, name):
        for value in ("fp16", "mps", "no", ""):
            choices = [c for k in kinds_of(kind, name) if get_origin(k) is Literal for c in get_args(k)]
            if value not in choices:
                refused(kind, name, value)
    else:
        for number in (7, 0.5, b"cpu", ["cpu"]):
            if not numeric(kind, name):
                refused(kind, name, number)


@pytest.mark.parametrize(("kind", "name"), EVERY_FIELD)
def test_every_item_of_a_list_is_checked(kind: type, name: str) -> None:
    items = _items(kinds_of(kind, name), 0)
    if items:
        refused(kind, name, (object(),))
        if {int, float} & set(_accepted(items[0])):
            refused(kind, name, (math.nan,))
            refused(kind, name, [0.5])


@pytest.mark.parametrize("name", ["seed"])
def test_a_negative_seed_is_refused_by_every_stage(name: str) -> None:
    seeded = [kind for kind in EVERY if name in setting_types(kind)]
    assert len(seeded) >= 4
    for kind in seeded:
        refused(kind, name, -1)
        assert getattr(replace(EVERY[kind], **{name: MAX_INTEGER}), name) == MAX_INTEGER
