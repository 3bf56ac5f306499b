"""``clerestory train``."""

from __future__ import annotations

import tomllib
from pathlib import Path
from typing import Any

from clerestory.apps.catalogue import dataset
from clerestory.cli.output import PLAIN, Common
from clerestory.core.codec import decode
from clerestory.core.digest import short
from clerestory.core.errors import ConfigError
from clerestory.stages.train import TrainConfig, train
from clerestory.store import open_store


def train_(
    *,
    data: str = "icons",
    preset: str = "nano",
    config: Path | None = None,
    seed: int = 0,
    steps: int | None = None,
    common: Common = PLAIN,
) -> None:
    """Train a model; interrupted, it goes on where it stopped.

    Args:
        data: The name of a data set, or what "data add" takes.
        preset: nano (about 5 minutes on 2 cores) or small.
        config: A TOML file with any setting of the training; options given here win over it.
        seed: The seed of everything random.
        steps: Fewer or more optimizer steps than the preset has.
    """
    out = common.out
    store = open_store(common.home)
    settings: dict[str, Any] = read_toml(config) if config else {}
    settings |= {"preset": preset, "seed": seed} if not config else {}
    if steps is not None:
        settings["steps"] = steps
    result = train(dataset(store, data, out), decode(TrainConfig, settings, "the training config"), store, out)
    if result.cached:
        out.say("nothing has changed since this model was trained: it is taken from the store")
    facts = result.evidence.facts
    out.result(
        {
            "model": result.model,
            "checkpoints": dict(result.checkpoints),
            "evidence": result.evidence.id,
            "facts": facts,
        },
        f"model     {result.model}",
        f"evidence  {result.evidence.id}",
        *(f"{name:<9} {value}" for name, value in facts.items() if not name.endswith("_model")),
    )
    out.next(f"clerestory evaluate {short(result.model)} --data {data}")


def read_toml(path: Path) -> dict[str, Any]:
    """The settings in a TOML file."""
    try:
        return tomllib.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise ConfigError(f"there is no file {path}", "give the path of a TOML file") from None
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise ConfigError(f"{path} is not valid TOML: {error}", "correct the line it names") from None
