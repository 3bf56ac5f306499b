"""``clerestory tune``."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Literal

from rich.table import Table

from clerestory.apps.datasets import load_dataset
from clerestory.apps.loading import load_model, privacy_notice
from clerestory.cli.output import PLAIN, Common
from clerestory.cli.train import read_toml
from clerestory.core.codec import decode, encode
from clerestory.core.digest import short
from clerestory.core.errors import CapabilityError
from clerestory.core.evidence import Evidence, Measurement
from clerestory.stages.train.tune import TuneConfig, TuneResult, check_target, tune, write_target
from clerestory.store import open_store

SETS = {"retention": "what it knew", "new": "the new pictures"}


def tune_(
    model: str,
    /,
    *,
    data: str,
    lock: Literal["image", "text", "none"] | None = None,
    method: Literal["full", "lora"] | None = None,
    on_forgetting: Literal["warn", "stop", "interpolate"] | None = None,
    min_retention: float | None = None,
    retain: str = "icons",
    retain_split: str = "val",
    steps: int | None = None,
    batch_size: int | None = None,
    learning_rate: float | None = None,
    question: str | None = None,
    seed: int | None = None,
    config: Path | None = None,
    to: Path | None = None,
    common: Common = PLAIN,
) -> None:
    """Fine-tune a model that others trained, and see what it forgets.

    Interrupted, it goes on at the last look. The result is kept in the store and named by its digest.

    Args:
        model: hf:org/name, hf:./folder, a release of yours (icons@live) or starter: a dual encoder (CLIP, SigLIP 2),
            or a model that answers in words (LLaVA, Qwen-VL, SmolVLM).
        data: The pictures to learn from: the name of a data set, or what "data add" takes.
        lock: The tower that stays as it is; its embeddings are computed once (default: image; text for a release).
        method: full trains all weights that are not locked; lora a few beside them.
        on_forgetting: What to do when it forgets: warn; stop, and restore the weights from before it forgot; or
            interpolate with the original weights after training.
        min_retention: The required share of the score on the retention set before training, such as 0.95.
        retain: The data set that tells what it knows and must not forget.
        retain_split: The split of it.
        steps: Optimizer steps (default: 200).
        batch_size: Images in a step (default: 64; 8 for a model that answers in words).
        learning_rate: The highest learning rate (default: 1e-5; 1e-4 with lora).
        question: What a model that answers in words is asked about every picture; it learns the caption as answer.
        seed: The seed of everything random.
        config: A TOML file with any setting; options given here win over it.
        to: A new folder to write the tuned model (and LoRA's adapter) to as well.
    """
    out = common.out
    store = open_store(common.home)
    if privacy_notice(model) or model.startswith("openai:"):
        raise CapabilityError(
            "a model behind an endpoint cannot be fine-tuned: its weights are not on this computer",
            "use hf:org/name, hf:./folder or a release of yours",
        )
    given = {
        "lock": lock,
        "method": method,
        "on_forgetting": on_forgetting,
        "min_retention": min_retention,
        "steps": steps,
        "batch_size": batch_size,
        "learning_rate": learning_rate,
        "question": question,
        "seed": seed,
    }
    settings: dict[str, Any] = read_toml(config) if config else {}
    settings |= {name: value for name, value in given.items() if value is not None}
    wanted = decode(TuneConfig, settings, "the settings of tune")
    if to is not None:
        check_target(to)
    opened, _ = load_model(store, model)
    pictures = load_dataset(store, data, out)
    retained = pictures if retain == data else load_dataset(store, retain, out)
    result = tune(opened, pictures, retained, wanted, store, out, retention_split=retain_split, base=model)
    if result.cached:
        out.say("nothing has changed since this model was fine-tuned: it is taken from the store")
    if to is not None:
        write_target(to, store, result.model, result.adapter)
    show(result, to, common)
    if result.model:
        out.next(f"clerestory evaluate {short(result.model)} --data {data}")


def show(result: TuneResult, to: Path | None, common: Common) -> None:
    """Print what was gained, what is kept and what was noticed."""
    evidence = result.evidence
    data = {"model": result.model, "adapter": result.adapter, "folder": str(to or ""), "id": evidence.id}
    found = [f"{f.code} {f.message}. What to do: {f.fix}" for f in evidence.findings]
    where = [f"folder    {to}"] if to else []
    named = result.model or "none was written; the adapter alone was asked for"
    common.out.result(
        {**data, **encode(evidence)},
        table(evidence),
        *found,
        f"weights   {evidence.facts['alpha']:.0%} of the way from the original to the tuned ones",
        f"model     {named}",
        *where,
        f"evidence  {evidence.id}",
    )


def table(evidence: Evidence) -> Table:
    """Before, after, and the way between the two."""
    sets = list(dict.fromkeys(m.slice["set"] for m in evidence.measurements))
    grid = Table("", *(f"{SETS[name]} (n = {_n(evidence, name)})" for name in sets), title="mean of 1 / rank")
    moments = dict.fromkeys((m.slice["phase"], m.slice.get("alpha", "")) for m in evidence.measurements)
    for phase, alpha in (moment for moment in moments if moment[0] != "validation"):
        by_set = {
            m.slice["set"]: m
            for m in evidence.measurements
            if (m.slice["phase"], m.slice.get("alpha", "")) == (phase, alpha)
        }
        grid.add_row(f"alpha {alpha}" if alpha else phase, *(_told(by_set.get(name)) for name in sets))
    return grid


def _n(evidence: Evidence, name: str) -> int:
    return next(m.n for m in evidence.measurements if m.slice["set"] == name)


def _told(found: Measurement | None) -> str:
    if found is None:
        return ""
    sign = "+" if found.slice["phase"] == "change" else ""
    span = found.interval
    return f"{found.value:{sign}.3f}" + (f" ({span.low:{sign}.3f} to {span.high:{sign}.3f})" if span else "")
