"""``clerestory tune``."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from shlex import quote
from typing import TYPE_CHECKING, Annotated, Literal

from cyclopts import Parameter
from rich.table import Table
from rich.text import Text

from clerestory.apps.caption_language import unread_language
from clerestory.apps.datasets import check_dataset, load_dataset
from clerestory.apps.loading import check_reference, load_model, privacy_notice
from clerestory.cli.output import PLAIN, Common, Output
from clerestory.cli.settings import read_settings
from clerestory.core.codec import Facts, encode
from clerestory.core.digest import short
from clerestory.core.errors import CapabilityError, InputError
from clerestory.core.evidence import Evidence, Measurement
from clerestory.core.outputs import check_output_folder
from clerestory.core.sample import Dataset
from clerestory.core.units import plural
from clerestory.stages.train.monitor.findings import format_finding
from clerestory.stages.train.tune import TuneConfig
from clerestory.store import Store, open_store

if TYPE_CHECKING:
    from clerestory.models.protocols import AnyModel
    from clerestory.stages.train.tune import TuneResult

SETS = {"retention": "retention set", "new": "new data"}
# After an interrupt: what the same command does not repeat, and what it does.
KEPT_OF_STEPS = (
    "run the same command again: it resumes at the last validation; before the first one only completely embedded sets "
    "are kept, and the steps begin anew"
)
KEPT_OF_HEAD = "run the same command again: features of images are kept; the fit begins anew, which takes seconds"
KEPT_OF_DRAFTS = (
    "run the same command again: features of images and measured folds are kept; the training that was under way "
    "begins anew"
)


def tune_(
    model: str,
    /,
    *,
    data: str,
    lock: Literal["image", "text", "none"] | None = None,
    method: Literal["full", "lora", "head"] | None = None,
    caption_drafts: Annotated[bool, Parameter(negative=())] = False,
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
    set_: Annotated[tuple[str, ...], Parameter(name="--set", negative=())] = (),
    to: Path | None = None,
    common: Common = PLAIN,
) -> int:
    """Fine-tune an existing model, and see what it forgets.

    After an interruption, the same command resumes at the last validation; a head takes the finished parts (features of
    images, measured folds) from the store. The result is stored under its digest.

    Args:
        model: photos, which gets a head fitted on your captions in seconds; or hf:org/name, hf:./folder, a release
            (icons@live) or starter: a dual encoder (CLIP, SigLIP 2), or a model that answers in text (LLaVA, Qwen-VL,
            SmolVLM).
        data: The training data: the name of a dataset, or any source that "data add" accepts.
        lock: The frozen tower; its embeddings are computed once (default: image; text for a release).
        method: full trains all weights that are not frozen; lora trains low-rank adapters; head fits a head on the
            frozen model in seconds (of photos always; also of a dual encoder).
        caption_drafts: Also train photos to draft captions as yours, in minutes. It learns that from 300 captioned
            photographs or more, and only if its drafts are better than the nearest of your captions.
        on_forgetting: What to do when it forgets: warn; stop, and restore the weights from before it forgot; or
            interpolate with the original weights after training.
        min_retention: The required share of the score on the retention set before training, such as 0.95.
        retain: The retention set: a dataset on which the model must not get worse.
        retain_split: The split of the retention set.
        steps: Optimizer steps (default: 200).
        batch_size: Images in a step (default: 64; 8 for a model that answers in text).
        learning_rate: The peak learning rate (default: 1e-5; 1e-4 with lora).
        question: The prompt for a model that answers in text; the caption is the target.
        seed: The random seed (default: 0).
        config: A TOML file with any setting; options and --set override it.
        set_: Any setting by its name, such as weight_decay=0; may be given several times.
        to: Also write the tuned model (and the LoRA adapter) to this new folder.
    """
    out = common.out
    store = open_store(common.home)
    if privacy_notice(model) or model.startswith("openai:"):
        raise CapabilityError(
            "a model behind an endpoint cannot be fine-tuned: its weights are not on this computer",
            "use hf:org/name, hf:./folder or a release",
        )
    options = {
        "lock": lock,
        "method": None if method == "head" else method,
        "on_forgetting": on_forgetting,
        "min_retention": min_retention,
        "steps": steps,
        "batch_size": batch_size,
        "learning_rate": learning_rate,
        "question": question,
        "seed": seed,
    }
    tune_config = read_settings(TuneConfig, config, options, set_)
    if to is not None:
        check_output_folder(to)
    # Names are checked before torch is imported and the model opened.
    check_dataset(store, data)
    check_dataset(store, retain)
    check_reference(store, model)
    from clerestory.models.photo.encoder import PhotoEncoder
    from clerestory.stages.train.tune import tune, write_target

    loaded, _ = load_model(store, model)
    if method == "head" or isinstance(loaded, PhotoEncoder):
        return _tune_head(loaded, model, data, store, _given(options, config, set_), caption_drafts, to, common)
    if caption_drafts:
        raise InputError("--caption-drafts is for photographs", "use it with the model photos")
    dataset = load_dataset(store, data, out)
    _warn_of_language(loaded, dataset, out)
    retention = dataset if retain == data else load_dataset(store, retain, out)
    with _saying_what_is_kept(KEPT_OF_STEPS):
        result = tune(loaded, dataset, retention, tune_config, store, out, retention_split=retain_split, base=model)
    if result.cached:
        out.write_line("the store already has this model: data, settings and code have not changed")
    if to is not None:
        write_target(to, store, result.model, result.adapter)
    show(result, to, common)
    if result.model:
        out.next(f"clerestory evaluate {short(result.model)} --data {quote(data)}")
    return 0


def _warn_of_language(model: AnyModel, data: Dataset, out: Output) -> None:
    if sentence := unread_language(model, data):
        out.write_line(f"warning: {sentence}")


@contextmanager
def _saying_what_is_kept(fix: str) -> Iterator[None]:
    try:
        yield
    except KeyboardInterrupt:
        raise KeyboardInterrupt(fix) from None


def _given(options: Mapping[str, object], config: Path | None, set_: tuple[str, ...]) -> list[str]:
    """The options that were given, as they are written."""
    named = [f"--{name.replace('_', '-')}" for name, value in options.items() if value is not None]
    return named + (["--config"] if config else []) + (["--set"] if set_ else [])


def _tune_head(
    model: AnyModel,
    ref: str,
    data: str,
    store: Store,
    given: list[str],
    caption_drafts: bool,
    to: Path | None,
    common: Common,
) -> int:
    """Fit a head on a frozen encoder; exit code 1 if nothing is gained."""
    from clerestory.models.photo.encoder import PhotoEncoder
    from clerestory.stages.train.tune import tune_head, write_target

    if given:
        raise InputError(
            f"{given[0]} is a setting of training in steps, and the head of {ref} is fitted in seconds",
            "leave it out; the penalty and the mixture are chosen by leave-one-out predictions",
        )
    out = common.out
    if to is not None:
        check_output_folder(to)
    dataset = load_dataset(store, data, out)
    _warn_of_language(model, dataset, out)
    with _saying_what_is_kept(KEPT_OF_DRAFTS if caption_drafts else KEPT_OF_HEAD):
        result = tune_head(model, dataset, store, out, base=ref, with_drafts=caption_drafts)
    if result.cached:
        out.write_line("the store already has this result: data and code have not changed")
    if to is not None and result.model:
        write_target(to, store, result.model, {})
    evidence = result.evidence
    facts = evidence.facts
    out.result(
        {"model": result.model, "folder": str(to or "") if result.model else "", "id": evidence.id, **encode(evidence)},
        head_table(evidence),
        *draft_tables(evidence),
        *(Text(format_finding(finding)) for finding in evidence.findings),
        f"fitted on {facts.number('train_samples'):,.0f} images; measured in {facts.number('folds'):.0f} folds, "
        "each image with a head that was fitted without it",
        *_held_out(facts),
        f"head      {1 - facts.number('encoder_share'):.0%} of the embedding of an image, chosen by leave-one-out "
        f"predictions{'' if facts.number('encoder_share') < 1 else ': the model with it would answer as without'}",
        *(
            [_learned_tags(facts.string_items("learned_tags"))]
            if result.model and isinstance(model, PhotoEncoder)
            else []
        ),
        f"model     {result.model or 'not written, since it gains nothing'}",
        *([f"folder    {to}"] if to and result.model else []),
        f"evidence  {evidence.id}",
    )
    if caption_drafts and not result.model:
        out.write_line("no caption decoder was trained, as the head that it depends on gains nothing yet")
    if result.model and evidence.facts.get("drafts_captions"):
        out.next(f"clerestory use describe PHOTOGRAPHS --model {short(result.model)}")
    elif result.model:
        out.next(f'clerestory use search "a few words" --data {quote(data)} --model {short(result.model)}')
    return 0 if result.model else 1


def _held_out(facts: Facts) -> list[str]:
    """Why fewer images were used than have captions."""
    number = facts.integer("held_out_samples")
    if not number:
        return []
    splits = f"split {' and '.join(facts.string_items('held_out_splits'))}"
    return [
        f"held out  {plural(number, 'captioned image')} in the {splits}, for an evaluation (data add holds out about a "
        "tenth of data without splits)"
    ]


def _learned_tags(words: Sequence[str]) -> str:
    if not words:
        return "tags      none: no word of your captions can be predicted precisely enough yet"
    return f"tags      {plural(len(words), 'word')} of your captions learned: {', '.join(words)}"


def head_table(evidence: Evidence) -> Table:
    """The scores without and with the head, and the change."""
    table = Table("", "without head", "with head")
    for task, label in (("text_to_image", "a caption finds its image"), ("image_to_text", "an image finds a caption")):
        where = {"task": task}
        cells = [evidence.find("recall@10", {**where, "phase": phase}) for phase in ("without head", "with head")]
        table.add_row(f"{label} (recall@10)", *(_score(cell) for cell in cells))
    cells = [evidence.find("mrr", {"task": "text_to_image", "phase": phase}) for phase in ("without head", "with head")]
    table.add_row("a caption finds its image (MRR)", *(_score(cell) for cell in cells))
    table.add_row("change of the MRR", "", _score(evidence.measurements[0]))
    return table


def draft_tables(evidence: Evidence) -> list[Table]:
    """The drafts beside the two captions that cost nothing; none if no drafts were measured."""
    rows = [(m.slice["phase"], m.name) for m in evidence.measurements if m.name in ("cider", "cider_change")]
    if not rows:
        return []
    table = Table("caption of photographs that it was not trained on", "CIDEr-D", "chrF")
    for phase, name in sorted(rows, key=lambda row: row[1]):  # the changes below the scores
        cells = [evidence.find(each, {"phase": phase}) for each in (name, name.replace("cider", "chrf"))]
        table.add_row(phase, *(_score(cell) for cell in cells))
    return [table]


def show(result: TuneResult, to: Path | None, common: Common) -> None:
    """Print the scores before and after, and the findings."""
    evidence = result.evidence
    data = {"model": result.model, "adapter": result.adapter, "folder": str(to or ""), "id": evidence.id}
    common.out.result(
        {**data, **encode(evidence)},
        score_table(evidence),
        *(Text(format_finding(finding)) for finding in evidence.findings),
        f"weights   {evidence.facts.number('alpha'):.0%} of the way from the original to the tuned weights",
        f"model     {result.model or 'not written, only the adapter was requested'}",
        *([f"folder    {to}"] if to else []),
        f"evidence  {evidence.id}",
    )


def score_table(evidence: Evidence) -> Table:
    """The scores before and after, and of the weights interpolated in between."""
    sets = list(dict.fromkeys(m.slice["set"] for m in evidence.measurements))
    heads = [f"{SETS[name]} (n = {_n(evidence, name)})" for name in sets]
    table = Table("", *heads, title="mean reciprocal rank (MRR)")
    moments = dict.fromkeys((m.slice["phase"], m.slice.get("alpha", "")) for m in evidence.measurements)
    for phase, alpha in (moment for moment in moments if moment[0] != "validation"):
        by_set = {
            m.slice["set"]: m
            for m in evidence.measurements
            if (m.slice["phase"], m.slice.get("alpha", "")) == (phase, alpha)
        }
        table.add_row(f"alpha {alpha}" if alpha else phase, *(_score(by_set.get(name)) for name in sets))
    return table


def _n(evidence: Evidence, name: str) -> int:
    return next(m.n for m in evidence.measurements if m.slice["set"] == name)


def _score(measurement: Measurement | None) -> str:
    if measurement is None:
        return ""
    sign = "+" if measurement.slice["phase"].startswith("change") else ""
    bounds = measurement.interval
    interval = f" ({bounds.low:{sign}.3f} to {bounds.high:{sign}.3f})" if bounds else ""
    return f"{measurement.value:{sign}.3f}{interval}"
