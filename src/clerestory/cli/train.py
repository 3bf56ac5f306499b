"""``clerestory train``."""

from __future__ import annotations

import os
import tomllib
from functools import partial
from pathlib import Path
from typing import Annotated, Any

from cyclopts import Parameter
from rich.table import Table
from rich.text import Text

from clerestory.apps.catalogue import dataset
from clerestory.apps.starter import bring_in_starter
from clerestory.cli.output import PLAIN, Common, Output
from clerestory.cli.settings import explained, with_settings
from clerestory.core.codec import decode, encode
from clerestory.core.digest import short
from clerestory.core.errors import ConfigError
from clerestory.core.sample import Dataset
from clerestory.models.starter import STARTER
from clerestory.stages.train import TrainConfig, train
from clerestory.stages.train.distributed.ray import train_on_ray
from clerestory.stages.train.plan import keep_plan
from clerestory.stages.train.plan import plan as make_plan
from clerestory.stages.train.run import start_folder
from clerestory.store import Store, open_store


def train_(
    *,
    data: str = "icons",
    preset: str = "nano",
    config: Path | None = None,
    seed: int = 0,
    steps: int | None = None,
    set_: Annotated[tuple[str, ...], Parameter(name="--set", negative=())] = (),
    from_: Annotated[str, Parameter(name="--from")] = "",
    plan: Annotated[bool, Parameter(negative=())] = False,
    price: float | None = None,
    ray: int = 0,
    settings: Annotated[bool, Parameter(negative=())] = False,
    common: Common = PLAIN,
) -> None:
    """Train a model; interrupted, it goes on where it stopped.

    Args:
        data: The name of a data set, or what "data add" takes.
        preset: nano (about 5 minutes on 2 cores), small (over an hour), base (bigger, with experts), tiny.
        config: A TOML file with any setting of the training; options given here win over it.
        seed: The seed of everything random.
        steps: Fewer or more optimizer steps than the preset has.
        set_: Any setting by its name, such as learning_rate=0.001 or model.experts=8; may be given several times.
        from_: Start from the weights of a release (icons@live), a model's digest, a model folder, or starter; with
            --set model.experts=8 a dense model becomes one with experts that computes the same at first.
        plan: Tell how long it takes, how much memory and money, after a few real steps; nothing is trained.
        price: What an hour of this machine costs, for --plan.
        ray: Train on this many Ray workers; on the cluster of RAY_ADDRESS, or on this machine without one.
        settings: Only list every setting that --set and a config file take, its default and what it does.
    """
    first = os.environ.get("RANK", "0") == "0"  # torchrun starts many of this process; one of them tells
    out = common.out if first else Output(quiet=True)
    if settings:
        list_settings(out)
        return
    store = open_store(common.home)
    given: dict[str, Any] = read_toml(config) if config else {}
    given |= {"preset": preset, "seed": seed} if not config else {}
    if steps is not None:
        given["steps"] = steps
    if from_:
        given["start_from"] = kept_model(store, from_)
    given = with_settings(given, set_, TrainConfig)
    pictures, wanted = dataset(store, data, out), decode(TrainConfig, given, "the training config")
    if plan:
        foretell(pictures, wanted, store, price, out)
        return
    result = (
        train_on_ray(partial(dataset, name=data), wanted, store, ray) if ray else train(pictures, wanted, store, out)
    )
    if not first:
        return
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
        *(
            f"forecast  {m.name.removeprefix('plan_').removesuffix('_ratio')}: {m.value:.2f} times what was foretold"
            for m in result.evidence.measurements
            if m.name.startswith("plan_")
        ),
    )
    out.next(f"clerestory evaluate {short(result.model)} --data {data}")


def list_settings(out: Output) -> None:
    """Print every setting of a training run."""
    rows = explained(TrainConfig)
    table = Table("setting", "default", "what it does", box=None)
    for row in rows:
        table.add_row(row.name, row.default, Text(row.meaning))
    out.result(encode(rows), table)


def kept_model(store: Store, ref: str) -> str:
    """The digest of a model in the store; a folder is put there first.

    Raises:
        NotFound: nothing has this name.
    """
    if ref == STARTER:
        return bring_in_starter(store)
    if (Path(ref) / "config.json").is_file():
        return store.put_model(ref)
    return store.resolve(ref).digest


def foretell(data: Dataset, config: TrainConfig, store: Store, price: float | None, out: Output) -> None:
    """Print the forecast of a training run and keep it, to be compared with the run."""
    found = make_plan(data, config, out, price, earlier=start_folder(config, store))
    keep_plan(found, data, config, store)
    out.result({**encode(found), "cost": found.cost}, *found.lines())
    out.say("nothing was trained; the same command without --plan trains, and tells how good this forecast was")


def read_toml(path: Path) -> dict[str, Any]:
    """The settings in a TOML file."""
    try:
        return tomllib.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise ConfigError(f"there is no file {path}", "give the path of a TOML file") from None
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise ConfigError(f"{path} is not valid TOML: {error}", "correct the line it names") from None
