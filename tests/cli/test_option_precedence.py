"""Options, settings files and defaults: an option wins over the file, and the file over the default."""

from __future__ import annotations

import importlib
import inspect
import json
import tempfile
from dataclasses import fields
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.support.shapes import shapes

from clerestory.cli.main import commands, run
from clerestory.cli.settings import merged_settings, names, read_settings
from clerestory.core.codec import decode
from clerestory.core.errors import ConfigError
from clerestory.core.stage import import_object, stages
from clerestory.data import parquet
from clerestory.stages.train import TrainConfig
from clerestory.stages.train.tune import TuneConfig

WORDS = {"preset": ("nano", "small", "tiny"), "loss": ("softmax", "sigmoid", "bank_softmax")}
TRAIN_VALUES = st.fixed_dictionaries(
    {},
    optional={
        "seed": st.integers(0, 9),
        "steps": st.integers(1, 9),
        "preset": st.sampled_from(WORDS["preset"]),
        "loss": st.sampled_from(WORDS["loss"]),
    },
)


@settings(deadline=None)
@given(file=TRAIN_VALUES, options=TRAIN_VALUES, pairs=TRAIN_VALUES)
def test_an_option_wins_over_the_file_and_the_file_over_the_default(
    file: dict[str, Any], options: dict[str, Any], pairs: dict[str, Any]
) -> None:
    pairs = {name: value for name, value in pairs.items() if name not in options}
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "settings.toml"
        path.write_text("\n".join(f"{n} = {json.dumps(v)}" for n, v in file.items()), encoding="utf-8")
        given_options = {name: options.get(name) for name in ("seed", "steps", "preset", "loss")}
        merged = merged_settings(path, given_options, [f"{n}={v}" for n, v in pairs.items()], TrainConfig)
    config, default = decode(TrainConfig, merged), TrainConfig()
    for name in given_options:
        expected = {**file, **options, **pairs}.get(name, getattr(default, name))
        assert getattr(config, name) == expected, name


def test_an_option_equal_to_the_default_still_wins_over_the_file(tmp_path: Path) -> None:
    file = tmp_path / "settings.toml"
    file.write_text('seed = 7\npreset = "tiny"\n[model]\nwidth = 32\n', encoding="utf-8")
    pairs = ["preset=nano", "model.width=64"]
    assert merged_settings(file, {"seed": 0}, pairs, TrainConfig) == {
        "seed": 0,
        "preset": "nano",
        "model": {"width": 64},
    }


@pytest.mark.parametrize(
    ("options", "pairs"),
    [({"seed": 1}, ["seed=2"]), ({}, ["steps=1", "steps=2"]), ({"preset": "tiny"}, ["preset=nano"])],
)
def test_a_setting_with_two_values_on_one_command_line_is_refused(options: dict[str, Any], pairs: list[str]) -> None:
    with pytest.raises(ConfigError, match="give it once"):
        merged_settings(None, options, pairs, TrainConfig)
    same = merged_settings(None, {"seed": 1}, ["seed=1"], TrainConfig)
    assert same == {"seed": 1}


def test_a_table_that_is_a_number_in_the_file_is_refused_in_one_sentence(tmp_path: Path) -> None:
    file = tmp_path / "settings.toml"
    file.write_text("model = 3\n", encoding="utf-8")
    with pytest.raises(ConfigError, match="settings.toml: model must be a table, not 3"):
        read_settings(TrainConfig, file, {}, ["model.width=8"])
    with pytest.raises(ConfigError, match="cannot be read"):
        merged_settings(tmp_path, {}, [], TrainConfig)


def commands_with_a_settings_file() -> dict[str, tuple[inspect.Signature, type]]:
    """The signature and the settings class of every command with ``--config``."""
    classes: dict[str, type] = {"tune": TuneConfig}
    for spec in stages().values():
        config = import_object(spec.config) if spec.config else None
        if spec.verb and isinstance(config, type):
            classes.setdefault(spec.verb, config)
    found = {}
    for verb, command in commands().items():
        if command.path:
            module, _, name = command.path.partition(":")
            signature = inspect.signature(getattr(importlib.import_module(module), name))
            if "config" in signature.parameters:
                found[verb] = (signature, classes.get(verb, TrainConfig))
    return found


def test_no_option_that_names_a_setting_has_a_default_of_its_own() -> None:
    """A default could not be told from a value that was given, and would win over the file or be dropped."""
    found = commands_with_a_settings_file()
    assert {"train", "tune"} <= set(found)
    for verb, (signature, config) in found.items():
        settings = {field.name for field in fields(config)} & set(names(config))
        for name in settings & set(signature.parameters):
            assert signature.parameters[name].default is None, f"{verb} --{name}"
        assert "set_" in signature.parameters, f"{verb} has --config but not --set"


def test_seed_and_preset_of_the_command_line_reach_the_training(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Three seeds are three models, whatever the file says."""
    data, file, home = tmp_path / "shapes.parquet", tmp_path / "nano.toml", str(tmp_path / "home")
    parquet.write_dataset(shapes(), data)
    file.write_text('preset = "nano"\nseed = 9\nsteps = 2\nbatch_size = 8\nthreads = 1\n', encoding="utf-8")
    models = set()
    for seed in ("0", "3", ""):
        options = ["--seed", seed] if seed else []
        command = ["train", "--data", str(data), "--config", str(file), "--preset", "tiny", "--steps", "1", *options]
        assert run([*command, "--home", home, "--json"]) == 0
        result = json.loads(capsys.readouterr().out)
        assert result["facts"]["seed"] == int(seed or 9)
        assert (result["facts"]["preset"], result["facts"]["steps"]) == ("tiny", 1)
        models.add(result["model"])
    assert len(models) == 3
