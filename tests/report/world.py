"""A small but complete world in a real store: data, training, two evaluations, two releases, a journal."""

from __future__ import annotations

import json
import math
import random
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from PIL import Image, ImageDraw
from tests.support.images import encode_image

from clerestory.core.codec import Fact, Facts, Tags
from clerestory.core.digest import canonical, digest, digest_bytes
from clerestory.core.evidence import Cost, Evidence, Finding, Interval, Measurement, Recipe, Subject
from clerestory.core.provenance import environment_digest, stage_code
from clerestory.core.release import Decision, Event, Policy, Reason, Release, Rule
from clerestory.core.sample import Caption, Dataset, Sample
from clerestory.stats.rows import write_rows
from clerestory.store import AliasMove, Store

STYLES = ("twemoji", "noto", "noto-v1", "fluent-emoji-flat", "emojione", "fxemoji")
LICENCES = {"twemoji": "CC-BY-4.0", "noto": "Apache-2.0", "noto-v1": "Apache-2.0", "fluent-emoji-flat": "MIT"}
THINGS = (
    ("violin", "#8a4b20"), ("red apple", "#c22f2f"), ("cat face", "#e0a526"), ("ocean wave", "#2463a6"),
    ("four leaf clover", "#1f7a4d"), ("purple heart", "#7a3fa6"), ("full moon", "#c9c2a8"), ("black cat", "#222222"),
    ("snowman", "#7fb4ec"), ("peach", "#f0a080"), ("evergreen tree", "#145c38"), ("fire engine", "#d2322b"),
)  # fmt: skip
HIT = {"final": 0.57, "early": 0.21}


@dataclass(frozen=True)
class World:
    """What is in the store."""

    store: Store
    data: Dataset
    final: Release
    early: Release


def picture(colour: str, style: str) -> bytes:
    """A round or square thing of one colour, drawn a little differently in every style."""
    image = Image.new("RGB", (72, 72), "white")
    draw = ImageDraw.Draw(image)
    inset = 6 + 3 * (sum(map(ord, style)) % 5)
    (draw.ellipse if len(style) % 2 else draw.rectangle)((inset, inset, 72 - inset, 72 - inset), colour, "#1d2733", 3)
    return encode_image(image)


def make_data(hostile: str = "") -> Dataset:
    """A few things in every style, the last third of them unseen; OpenMoji whole is ``test_style``."""
    contents, samples = {}, []
    for place, (name, colour) in enumerate(THINGS):
        split = "test" if place % 3 == 2 else "val" if place % 6 == 1 else "train"
        for style in (*STYLES, "openmoji"):
            content = picture(colour, style)
            image = digest_bytes(content)
            contents[image] = content
            groups = Tags(style=style, skin_tone="none", gender="none", emoji_group="objects")
            captions = (Caption(hostile or name), Caption("thing", kind="keyword"), Caption(f"{name} (de)", "de"))
            samples.append(
                Sample(
                    id=f"{style}/{name.replace(' ', '-')}",
                    image=image,
                    captions=captions,
                    concept=name,
                    groups=groups,
                    licence=LICENCES.get(style, "CC-BY-SA-4.0"),
                    source=f"@iconify-json/{style}@1.2.3",
                    split="test_style" if style == "openmoji" else split,
                )
            )
    found = Finding(
        "CLR-D001", "warning", "warn", "broken.png", "the picture cannot be read", "send it as PNG, JPEG or WEBP"
    )
    return Dataset("icons", samples, lambda sample: contents[sample.image], [found])


def share(name: str, value: float, n: int, clusters: int, where: dict[str, str], k: float) -> Measurement:
    """A recall with the interval that many independent concepts would give."""
    half = 1.96 * math.sqrt(value * (1 - value) / clusters) + 1e-4
    recipe = Recipe("share_at_most", "rank", Tags(where), "concept", k)
    ends = Interval(max(0.0, value - half), min(1.0, value + half), "cluster-t")
    return Measurement(name, value, "share", n, ends, slice=Tags(where), clusters=clusters, recipe=recipe)


def measurements(level: float) -> list[Measurement]:
    """Measurements of an evaluation of a model that reaches ``level``."""
    found: list[Measurement] = []
    pools = {"test": (1.0, 2480, 488), "test_style": (0.42, 1695, 1502)}
    for split, (ease, n, clusters) in pools.items():
        for task, better in (("image_to_text", 1.0), ("text_to_image", 0.93)):
            where = {"task": task, "split": split}
            for k, part in ((1, 0.31), (5, 0.78), (10, 1.0)):
                found.append(share(f"recall@{k}", level * ease * better * part, n, clusters, where, k))
            ends = Interval(7.0, 11.0, "cluster-woodruff")
            found.append(
                Measurement(
                    "median_rank",
                    8.0,
                    "rank",
                    n,
                    ends,
                    "",
                    Tags(where),
                    "lower",
                    clusters,
                    Recipe("quantile", "rank", Tags(where), "concept", 0.5),
                )
            )
        where = {"task": "caption", "split": split}
        for name, value in (("chrf", 0.31 * ease), ("chrf_best_of_3", 0.42 * ease)):
            ends = Interval(value - 0.02, value + 0.02, "cluster-t")
            found.append(
                Measurement(
                    name,
                    value,
                    "share",
                    200,
                    ends,
                    "",
                    Tags(where),
                    clusters=188,
                    recipe=Recipe("mean", "chrf", Tags(where), "concept"),
                )
            )
    for i, style in enumerate(STYLES):
        where = {"task": "image_to_text", "split": "test", "style": style}
        for k, part in ((1, 0.31), (5, 0.78), (10, 1.0)):
            found.append(share(f"recall@{k}", level * part * (1.15 - 0.08 * i), 413, 402, where, k))
    for value, ease, n in (("train", 0.5, 1201), ("test", 0.33, 260), ("none", 0.14, 110)):
        where = {"task": "image_to_text", "split": "test_style", "concept_split": value}
        found.append(share("recall@10", level * ease, n, n, where, 10))
    for operation, usual, slow in (("embed_image", 9.4, 14.2), ("embed_text", 6.1, 8.8), ("describe", 61.0, 93.5)):
        where = Tags(task="latency", operation=operation)
        for name, value in (("latency_p50", usual), ("latency_p95", slow)):
            ends = Interval(value * 0.95, value * 1.08, "order-statistics")
            found.append(
                Measurement(
                    name, value, "ms", 80, ends, "", where, "lower", recipe=Recipe("quantile", "ms", where, "", 0.5)
                )
            )
    return found


def examples(data: Dataset) -> bytes:
    """The artifact of an evaluation, in the form of ``stages/evaluate/suites/retrieval/examples.py``."""
    pick = random.Random(3)
    retrieved, written = [], []
    for split in ("test", "test_style"):
        pool = list(data.split(split))
        for task in ("image_to_text", "text_to_image"):
            for kind, rank in (("best", 1.0), ("typical", 4.0), ("worst", 371.0)):
                for sample in pick.sample(pool, 3):
                    near = pick.sample([s for s in data if s.concept != sample.concept], 6)
                    if rank < 6:
                        near[int(rank) - 1] = sample
                    shown = [{"sample": s.id, "caption": s.caption, "score": 0.5, "correct": s is sample} for s in near]
                    retrieved.append(
                        {"split": split, "task": task, "kind": kind, "sample": sample.id, "caption": sample.caption,
                         "concept": sample.concept, "rank": rank, "candidates": 503, "neighbours": shown}
                    )  # fmt: skip
        for sample in pick.sample(pool, 4):
            said = [{"text": t, "score": 0.4} for t in ("red circle", sample.caption, "musical instrument")]
            written.append(
                {"split": split, "sample": sample.id, "caption": sample.caption, "chrf": 0.4, "suggestions": said}
            )
    return json.dumps({"examples": retrieved, "captions": written}).encode()


def training_log(steps: int = 1200, early: int = 200) -> bytes:
    """JSON lines as training writes them."""
    noise = random.Random(1)
    lines = []
    for step in range(10, steps + 1, 10):
        contrastive = 1.1 + 3.6 * math.exp(-step / 260) + noise.gauss(0, 0.06)
        caption = 0.5 + 1.9 * math.exp(-step / 400) + noise.gauss(0, 0.05)
        lines.append(
            {
                "step": step,
                "loss": contrastive + caption,
                "contrastive": contrastive,
                "caption": caption,
                "lr": 1e-3,
                "seconds": step / 5,
            }
        )
        if step % 200 == 0:
            reached = 0.58 * (1 - math.exp(-step / 380))
            lines.append(
                {"step": step, "n": 2304, **{f"val_recall@{k}": reached * part for k, part in ((1, 0.3), (10, 1.0))}}
            )
    return "\n".join(json.dumps(line) for line in lines).encode()


def rows() -> bytes:
    """Some rows of single requests; the measurements of this world do not follow from them."""
    noise = random.Random(5)
    operations = ["embed_image"] * 80 + ["embed_text"] * 80
    table = {
        "task": np.array(["latency"] * len(operations), dtype=object),
        "operation": np.array(operations, dtype=object),
        "ms": np.array([9.4 + noise.expovariate(0.4) for _ in operations]),
    }
    return write_rows(table)


POLICY = Policy(
    "icons",
    (
        Rule("captions for things it never saw", "recall@10", Tags(task="image_to_text", split="test"), at_least=0.45,
             why="The right caption has to be among the first ten of about five hundred."),
        Rule("captions in a drawing style it never saw", "recall@10", Tags(task="image_to_text", split="test_style"),
             at_least=0.15, why="People bring pictures that are drawn differently."),
        Rule("fast enough on a processor", "latency_p95", Tags(task="latency", operation="embed_image"), at_most=200,
             criterion="value", why="Nineteen of twenty pictures have to be read within a fifth of a second."),
    ),
)  # fmt: skip


def examination(store: Store, data: Dataset, model: str, level: float) -> Evidence:
    """Evidence of kind ``evaluate`` with everything a real one has."""
    facts: dict[str, Fact] = {"retrieval.language": "en"}
    for split, (captions, pictures) in {"test": (503, 2480), "test_style": (1695, 1711)}.items():
        for task, pool in (("image_to_text", captions), ("text_to_image", pictures)):
            facts[f"candidates.{task}.{split}"] = pool
            for k in (1, 5, 10):
                facts[f"chance.recall@{k}.{task}.{split}"] = round(k / captions, 6)
    left_out = Finding("CLR-E006", "info", "not_applicable", "group skin_tone", "1,204 skin-tone variants are excluded")
    subject = Subject(model, data.digest, code("evaluate"), digest("config"), environment_digest())
    return Evidence(
        "evaluate", subject, tuple(measurements(level)), (left_out,), Cost(41.2, 77.9, 812.5),
        "2026-11-23T18:01:10+00:00", store.blobs.put(rows()),
        Tags(examples=store.blobs.put(examples(data))), Facts(facts),
    )  # fmt: skip


def code(stage: str) -> str:
    try:
        return stage_code(stage)
    except OSError:
        return ""


def decide(store: Store, evidence: Evidence, evidence_id: str) -> Decision:
    """What the gate would say, rule by rule."""
    reasons = []
    for rule in POLICY.rules:
        m = evidence.find(rule.metric, rule.where)
        assert m is not None
        assert m.interval is not None
        if rule.at_least is not None:
            holds, bound = m.interval.low >= rule.at_least, f"at least {rule.at_least:.1%}"
            said = f"{m.value:.1%} with a 95 % interval of {m.interval.low:.1%} to {m.interval.high:.1%} (n = {m.n:,})"
        else:
            holds, bound = m.value <= (rule.at_most or 0), f"at most {rule.at_most:g} ms"
            said = f"{m.value:.1f} ms (n = {m.n})"
        ending = f"the requirement is {bound}"
        command = "" if holds else "clerestory train --steps 1200"
        message = f"{rule.metric} ({rule.where}) is {said}; {ending}"
        reasons.append(
            Reason(
                rule.name,
                "pass" if holds else "fail",
                "meets_bound" if holds else "below_minimum",
                message,
                evidence_id,
                command=command,
            )
        )
    verdict = "ship" if all(r.outcome == "pass" for r in reasons) else "refuse"
    return Decision(
        verdict, "icons version 1", store.blobs.put(canonical(POLICY)), evidence.subject.model, tuple(reasons)
    )


def make_model(folder: Path, name: str) -> Path:
    """A folder that stands for a model: the report never opens it."""
    folder.mkdir(parents=True)
    (folder / "config.json").write_text(json.dumps({"name": name}), encoding="utf-8")
    (folder / "model.safetensors").write_bytes(name.encode())
    return folder


def make_world(store: Store, scratch: Path, data: Dataset | None = None, why: str = "more steps") -> World:
    """An early checkpoint is refused, the final one is promoted, rolled back from and promoted again."""
    data = data or make_data()
    added = Event("data_added", "icons", "Ada", "first pictures", "2026-11-23T17:50:00+00:00", Tags(digest=data.digest))
    store.put_dataset("icons", "icons", data.digest, len(data), added)
    models = {name: store.put_model(make_model(scratch / name, name)) for name in ("early", "final")}
    facts = Facts(
        model=models["final"],
        early_model=models["early"],
        early_step=200,
        preset="nano",
        steps=1200,
        parameters=4_812_544,
    )
    subject = Subject(models["final"], data.digest, code("train"), digest("train"), environment_digest())
    trained = Evidence(
        "train", subject, (), (), Cost(243.7, 471.0, 1894.0), "2026-11-23T17:58:30+00:00", "",
        Tags(log=store.blobs.put(training_log())), facts,
    )  # fmt: skip
    store.put_evidence(trained)
    releases = {}
    for name in ("early", "final"):
        evidence = examination(store, data, models[name], HIT[name])
        where = store.put_evidence(evidence)
        decision = decide(store, evidence, where)
        reason = "a look at an early checkpoint" if name == "early" else why
        releases[name] = store.add_release(
            "icons", models[name], [where], decision, "Ada", reason, Tags(checkpoint=name)
        )
    final = releases["final"]
    event = Event("promoted", final.ref, "Grace", "passed the gate, looks right", "2026-11-23T18:02:00+00:00")
    store.move_aliases("icons", [AliasMove("live", final.number, 0)], event)
    return World(store, data, final, releases["early"])
