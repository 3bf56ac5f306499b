"""The losses' promises: time and memory against open_clip, processes against one, small pieces against one batch.

Run alone with ``python bench/training_losses.py``; about a minute. Everything runs on one thread, both sides of a
comparison in turn. open_clip is installed by this bench, without its requirements, into ``bench/.peers``, and only its
file of losses is loaded.
"""

from __future__ import annotations

import importlib.util
import math
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from types import ModuleType
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.multiprocessing.spawn import spawn
from torch.nn import functional as F

from clerestory.stages.train.losses import (
    IGNORE,
    Ring,
    grad_cache_step,
    linear_cross_entropy,
    matryoshka,
    nested_sigmoid_loss,
    sigmoid_loss,
    softmax_loss,
)
from table import Row, publish

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from tests.stages.train_losses.oracles import gap, saved_bytes

PEER = "open_clip_torch==3.3.0"
PLACE = Path(__file__).parent / ".peers" / "open-clip"
BATCH, WIDTH, ROUNDS = 4096, 256, 7
CHUNK = 512
MIB = 2**20
Loss = Callable[[], Tensor]


def rows() -> list[Row]:
    """Every promise about the losses."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        peer = installed()
        return [*sigmoid_rows(peer), *softmax_rows(peer), *ring_rows(), *gradcache_rows(), *word_rows(), *nested_rows()]
    finally:
        torch.set_num_threads(before)


def installed() -> ModuleType:
    """open_clip's losses, loaded by path."""
    if not (PLACE / "open_clip").is_dir():
        pip = [sys.executable, "-m", "pip", "--disable-pip-version-check", "install", "--quiet", "--no-deps"]
        subprocess.run([*pip, "--target", str(PLACE), PEER], check=True)
    spec = importlib.util.spec_from_file_location("open_clip_loss", PLACE / "open_clip" / "loss.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@dataclass
class Timed:
    """Seconds of forward and backward, and the last gradients."""

    seconds: list[float]
    gradients: tuple[Tensor, ...]

    @property
    def best(self) -> float:
        return min(self.seconds)


def taking_turns(losses: dict[str, Loss], leaves: Sequence[Tensor], rounds: int = ROUNDS) -> dict[str, Timed]:
    """Forward and backward of each, in turn."""
    found = {name: Timed([], ()) for name in losses}
    for _ in range(rounds):
        for name, loss in losses.items():
            start = time.perf_counter()
            gradients = torch.autograd.grad(loss(), leaves)
            found[name].seconds.append(time.perf_counter() - start)
            found[name].gradients = gradients
    return found


def spread(slow: Timed, fast: Timed) -> str:
    """Both minima and the range of the ratio within single rounds."""
    ratios = [a / b for a, b in zip(slow.seconds, fast.seconds, strict=True)]
    return (
        f"{1000 * fast.best:.0f} ms against {1000 * slow.best:.0f} ms, one thread, least of {len(ratios)}; "
        f"round by round {min(ratios):.2f} to {max(ratios):.2f}"
    )


def pairs(count: int = BATCH, width: int = WIDTH) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Unit rows, texts a little like their pictures; scale and bias as SigLIP starts."""
    draw = torch.Generator().manual_seed(0)
    images_BD = F.normalize(torch.randn(count, width, generator=draw), dim=1)
    texts_BD = F.normalize(0.3 * images_BD + torch.randn(count, width, generator=draw) / math.sqrt(width), dim=1)
    return (
        images_BD.requires_grad_(),
        texts_BD.requires_grad_(),
        torch.tensor(10.0, requires_grad=True),
        torch.tensor(-10.0, requires_grad=True),
    )


def chunked(images_BD: Tensor, texts_BD: Tensor, scale: Tensor, bias: Tensor) -> Tensor:
    """The plain formula over pieces of the texts, gradients left to autograd."""
    total = images_BD.new_zeros(())
    for start in range(0, len(texts_BD), CHUNK):
        s_BC = scale * images_BD @ texts_BD[start : start + CHUNK].T + bias
        total = total + F.softplus(s_BC).sum() - s_BC.diagonal(-start).sum()
    return total / len(images_BD)


def sigmoid_rows(peer: ModuleType) -> Iterator[Row]:
    """Time, saved bytes and gradients of the sigmoid loss."""
    leaves = pairs()
    full = peer.SigLipLoss()
    losses: dict[str, Loss] = {
        "full": lambda: full(*leaves),
        "chunked": lambda: chunked(*leaves),
        "ours": lambda: sigmoid_loss(*leaves),
    }
    found = taking_turns(losses, leaves)
    ratio = found["full"].best / found["ours"].best
    chunk_ratio = found["chunked"].best / found["ours"].best
    note = (
        f"{spread(found['full'], found['ours'])}; the formula in chunks of {CHUNK} under autograd: {chunk_ratio:.2f} ×"
    )
    name = f"B={BATCH:,}, D={WIDTH}, fp32"
    yield Row(
        f"sigmoid loss, forward and backward, {name}",
        ratio,
        "times",
        "≥ 1.5 × open_clip's full loss",
        ratio >= 1.5,
        ROUNDS,
        PEER,
        note,
    )
    saved = {key: saved_bytes(loss) / MIB for key, loss in losses.items()}
    allowed = (2 * BATCH * WIDTH + 2) * 4 / MIB
    yield Row(
        f"sigmoid loss, saved for the backward pass, {name}",
        saved["ours"],
        "MiB",
        "≤ 2·B·D floats + 2 numbers",
        saved["ours"] <= allowed,
        1,
        PEER,
        f"open_clip full {saved['full']:.0f} MiB, in chunks of {CHUNK} under autograd {saved['chunked']:.0f} MiB; "
        "embeddings of the caller counted where they are kept",
    )
    distance = gap(found["ours"].gradients, found["full"].gradients)
    note = "largest relative distance over images, texts, scale, bias"
    yield Row("sigmoid loss, gradients", distance, "", "≤ 1e-5 of open_clip's", distance <= 1e-5, 4, PEER, note)


def softmax_rows(peer: ModuleType) -> Iterator[Row]:
    """The same of the softmax loss; its bar on time is this bench's own."""
    leaves = pairs()[:3]
    full = peer.ClipLoss()
    losses: dict[str, Loss] = {"full": lambda: full(*leaves), "ours": lambda: softmax_loss(*leaves)}
    found = taking_turns(losses, leaves)
    ratio = found["full"].best / found["ours"].best
    distance = gap(found["ours"].gradients, found["full"].gradients)
    saved = {key: saved_bytes(loss) / MIB for key, loss in losses.items()}
    note = (
        f"{spread(found['full'], found['ours'])}; saved {saved['ours']:.1f} MiB against {saved['full']:.0f} MiB; "
        f"gradients {distance:.1e}"
    )
    holds = ratio >= 1 and distance <= 1e-5 and saved["ours"] <= (2 * BATCH * WIDTH + 1) * 4 / MIB
    name = f"softmax loss, forward and backward, B={BATCH:,}, D={WIDTH}, fp32"
    yield Row(name, ratio, "times", "≥ 1 × open_clip's, 2·B·D saved, ≤ 1e-5", holds, ROUNDS, PEER, note)


SHARE = 256


def ring_worker(rank: int, folder: str) -> None:
    """One of four processes: as half of a pair, then as one of four, ours and open_clip's."""
    torch.set_num_threads(1)
    peer = installed()
    dist.init_process_group("gloo", init_method=f"file://{folder}/meet", rank=rank, world_size=4)
    try:
        two = [dist.new_group([0, 1]), dist.new_group([2, 3])][rank // 2]
        for ring in (Ring.over(two), Ring.over()):
            one, every = pairs(SHARE * ring.size), slice(SHARE * ring.rank, SHARE * (ring.rank + 1))
            part = one[0].detach()[every].requires_grad_(), one[1].detach()[every].requires_grad_(), *one[2:]

            def ours(part: Any = part, ring: Ring = ring) -> Tensor:
                return sigmoid_loss(*part, ring=ring)

            found = {"gradients": torch.autograd.grad(ours(), part), "bytes": saved_bytes(ours)}
            if ring.size == 4:
                theirs = peer.SigLipLoss(rank=rank, world_size=4)
                found["theirs"] = saved_bytes(partial(theirs, *part))
            torch.save(found, Path(folder) / f"{ring.size}-{rank}.pt")
    finally:
        dist.destroy_process_group()


def ring_rows() -> Iterator[Row]:
    """2 and 4 processes against one, and the bytes each of them saves."""
    distance, saved = 0.0, []
    with tempfile.TemporaryDirectory() as folder:
        spawn(ring_worker, (folder,), nprocs=4)  # type: ignore[no-untyped-call]  # torch leaves it without types
        for size in (2, 4):
            found = [torch.load(Path(folder) / f"{size}-{rank}.pt", weights_only=True) for rank in range(size)]
            leaves = pairs(SHARE * size)
            wanted = torch.autograd.grad(sigmoid_loss(*leaves), leaves)
            each = list(zip(*(one["gradients"] for one in found), strict=True))
            got = [torch.cat(each[0]) / size, torch.cat(each[1]) / size, *(torch.stack(e).mean() for e in each[2:])]
            distance = max(distance, gap(got, wanted))
            saved.append(max(one["bytes"] for one in found))
        theirs = found[0]["theirs"]
    note = f"largest relative distance of a gradient, {SHARE} pairs per process, gloo, averaged as data parallel does"
    yield Row("sigmoid loss, 2 and 4 processes", distance, "", "≤ 1e-5 of one process", distance <= 1e-5, 6, "", note)
    alone = saved_bytes(lambda: sigmoid_loss(*pairs(SHARE)))
    yield Row(
        "sigmoid loss, saved bytes of 4 processes / of one",
        saved[1] / alone,
        "times",
        "= 1 (flat in world size)",
        saved == [alone, alone],
        3,
        PEER,
        f"1, 2 and 4 processes: {alone / MIB:.2f}, {saved[0] / MIB:.2f}, {saved[1] / MIB:.2f} MiB; "
        f"open_clip's exchange in 4 processes {theirs / MIB:.2f} MiB",
    )


def gradcache_rows() -> Iterator[Row]:
    """A batch of 4,096 in pieces of 64 against the batch at once, through two small towers."""
    torch.manual_seed(0)
    towers = nn.ModuleList(
        nn.Sequential(nn.Linear(256, 512), nn.GELU(), nn.Linear(512, 512), nn.GELU(), nn.Linear(512, 128))
        for _ in range(2)
    )
    scale, bias = (torch.tensor(value, requires_grad=True) for value in (10.0, -10.0))
    leaves = [*towers.parameters(), scale, bias]
    data = torch.randn(2, BATCH, 256)

    def encode(side: int, x: Tensor) -> Tensor:
        return F.normalize(towers[side](x), dim=1)

    def loss(images: Tensor, texts: Tensor) -> Tensor:
        return sigmoid_loss(images, texts, scale, bias)

    def whole() -> Tensor:
        return loss(encode(0, data[0]), encode(1, data[1]))

    parts = list(zip(torch.split(data[0], 64), torch.split(data[1], 64), strict=True))
    times: dict[str, list[float]] = {"whole": [], "pieces": []}
    for _ in range(3):
        start = time.perf_counter()
        wanted = torch.autograd.grad(whole(), leaves)
        times["whole"].append(time.perf_counter() - start)
        for leaf in leaves:
            leaf.grad = None
        start = time.perf_counter()
        grad_cache_step(lambda x: encode(0, x), lambda x: encode(1, x), loss, parts)
        times["pieces"].append(time.perf_counter() - start)
    distance = gap([leaf.grad for leaf in leaves if leaf.grad is not None], wanted)
    one = saved_bytes(lambda: encode(0, parts[0][0]).sum() + encode(1, parts[0][1]).sum()) / MIB
    yield Row(
        "gradient cache, batch 4,096 in micro-batches of 64, gradients",
        distance,
        "",
        "≤ 1e-5 of the full batch",
        distance <= 1e-5,
        len(leaves),
        "",
        f"saved at once {one:.1f} MiB (weights included) against {saved_bytes(whole) / MIB:.0f} MiB; "
        f"{min(times['pieces']) / min(times['whole']):.2f} × the time",
    )


def word_rows() -> Iterator[Row]:
    """The output layer's cross-entropy, a third of the positions padding; the bars are this bench's own."""
    positions, words = 1536, 16_384
    draw = torch.Generator().manual_seed(0)
    hidden = torch.randn(positions, WIDTH, generator=draw).requires_grad_()
    weight = (torch.randn(words, WIDTH, generator=draw) / 16).requires_grad_()
    target = torch.randint(words, (positions,), generator=draw)
    target[torch.rand(positions, generator=draw) < 1 / 3] = IGNORE
    losses: dict[str, Loss] = {
        "plain": lambda: F.cross_entropy(hidden @ weight.T, target, ignore_index=IGNORE, label_smoothing=0.1),
        "ours": lambda: linear_cross_entropy(hidden, weight, target, smoothing=0.1),
    }
    found = taking_turns(losses, (hidden, weight), 5)
    everywhere = target.clamp(min=0)
    unpadded = taking_turns(
        {
            "plain": lambda: F.cross_entropy(hidden @ weight.T, everywhere, label_smoothing=0.1),
            "ours": lambda: linear_cross_entropy(hidden, weight, everywhere, smoothing=0.1),
        },
        (hidden, weight),
        3,
    )
    without = unpadded["plain"].best / unpadded["ours"].best
    ratio, distance = (
        found["plain"].best / found["ours"].best,
        gap(found["ours"].gradients, found["plain"].gradients),
    )
    saved = {key: saved_bytes(loss) / MIB for key, loss in losses.items()}
    yield Row(
        "caption cross-entropy with its output layer, 1,536 × 16,384, D=256",
        ratio,
        "times",
        "≥ 1 × F.cross_entropy, no logits kept, ≤ 1e-5",
        ratio >= 1 and distance <= 1e-5 and saved["ours"] * MIB <= 4 * (positions + words) * WIDTH,
        5,
        "torch",
        f"{spread(found['plain'], found['ours'])}; a third of the positions is padding "
        f"(without: {without:.2f} ×), label smoothing 0.1; saved "
        f"{saved['ours']:.0f} MiB against {saved['plain']:.0f} MiB; gradients {distance:.1e}",
    )


def nested_rows() -> Iterator[Row]:
    """Four nested widths against one and against their plain sum; the bars are this bench's own."""
    images, texts, scale, bias = leaves = pairs(2048, 768)
    dims = (96, 192, 384, 768)

    def summed() -> Tensor:
        return torch.stack(
            [sigmoid_loss(F.normalize(images[:, :d]), F.normalize(texts[:, :d]), scale, bias) for d in dims]
        ).sum()

    losses: dict[str, Loss] = {
        "one": lambda: sigmoid_loss(*leaves),
        "summed": summed,
        "ours": lambda: nested_sigmoid_loss(*leaves, dims),
        "any loss": lambda: matryoshka(sigmoid_loss, (images, texts), dims, parameters=(scale, bias)),
    }
    found = taking_turns(losses, leaves, 5)
    distance = max(gap(found[name].gradients, found["summed"].gradients) for name in ("ours", "any loss"))
    saved = {key: saved_bytes(loss) / MIB for key, loss in losses.items()}
    ratio = found["summed"].best / found["ours"].best
    yield Row(
        "sigmoid loss at nested widths 96, 192, 384, 768, B=2,048",
        ratio,
        "times",
        "≥ 1 × the plain sum, saved bytes of one width, ≤ 1e-5",
        ratio >= 1 and saved["any loss"] <= saved["one"] and saved["ours"] <= saved["one"] and distance <= 1e-5,
        5,
        "",
        f"{spread(found['summed'], found['ours'])}; one width {1000 * found['one'].best:.0f} ms, the wrapper for any "
        f"loss {1000 * found['any loss'].best:.0f} ms; saved {saved['ours']:.1f} MiB (any loss "
        f"{saved['any loss']:.1f}, plain sum {saved['summed']:.1f}); gradients {distance:.1e}",
    )


if __name__ == "__main__":
    sys.exit(0 if publish("training_losses", rows()) else 1)
