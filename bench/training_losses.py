"""The requirements of the losses: time and memory compared with open_clip, several processes, micro-batches.

Run alone with ``python bench/training_losses.py``; about a minute. Everything runs on one thread, the compared
implementations interleaved. open_clip is installed by this bench, without its dependencies, into ``bench/.peers``, and
only its module of losses is loaded.
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
    """The requirements of all losses."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        peer = load_peer()
        return [
            *sigmoid_rows(peer),
            *softmax_rows(peer),
            *ring_rows(),
            *gradcache_rows(),
            *caption_rows(),
            *nested_rows(),
        ]
    finally:
        torch.set_num_threads(before)


def load_peer() -> ModuleType:
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


def time_interleaved(losses: dict[str, Loss], leaves: Sequence[Tensor], rounds: int = ROUNDS) -> dict[str, Timed]:
    """Forward and backward of each loss, interleaved."""
    timed = {name: Timed([], ()) for name in losses}
    for _ in range(rounds):
        for name, loss in losses.items():
            start = time.perf_counter()
            gradients = torch.autograd.grad(loss(), leaves)
            timed[name].seconds.append(time.perf_counter() - start)
            timed[name].gradients = gradients
    return timed


def spread(slow: Timed, fast: Timed) -> str:
    """Both minimum times and the range of the ratio within single rounds."""
    ratios = [a / b for a, b in zip(slow.seconds, fast.seconds, strict=True)]
    return (
        f"{1000 * fast.best:.0f} ms and {1000 * slow.best:.0f} ms, one thread, minimum of {len(ratios)}; "
        f"single rounds {min(ratios):.2f} to {max(ratios):.2f}"
    )


def pairs(count: int = BATCH, width: int = WIDTH) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Unit rows, texts slightly similar to their images; initial scale and bias of SigLIP."""
    generator = torch.Generator().manual_seed(0)
    images_BD = F.normalize(torch.randn(count, width, generator=generator), dim=1)
    texts_BD = F.normalize(0.3 * images_BD + torch.randn(count, width, generator=generator) / math.sqrt(width), dim=1)
    return (
        images_BD.requires_grad_(),
        texts_BD.requires_grad_(),
        torch.tensor(10.0, requires_grad=True),
        torch.tensor(-10.0, requires_grad=True),
    )


def chunked(images_BD: Tensor, texts_BD: Tensor, scale: Tensor, bias: Tensor) -> Tensor:
    """The plain formula over chunks of the texts, with gradients by autograd."""
    total = images_BD.new_zeros(())
    for start in range(0, len(texts_BD), CHUNK):
        s_BC = scale * images_BD @ texts_BD[start : start + CHUNK].T + bias
        total = total + F.softplus(s_BC).sum() - s_BC.diagonal(-start).sum()
    return total / len(images_BD)


def sigmoid_rows(peer: ModuleType) -> Iterator[Row]:
    """Time, bytes saved for the backward pass and gradients of the sigmoid loss."""
    leaves = pairs()
    full = peer.SigLipLoss()
    losses: dict[str, Loss] = {
        "full": lambda: full(*leaves),
        "chunked": lambda: chunked(*leaves),
        "ours": lambda: sigmoid_loss(*leaves),
    }
    found = time_interleaved(losses, leaves)
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
        "embeddings of the caller are counted if they are saved",
    )
    distance = gap(found["ours"].gradients, found["full"].gradients)
    note = "largest relative difference over images, texts, scale, bias"
    yield Row("sigmoid loss, gradients", distance, "", "≤ 1e-5 of open_clip's", distance <= 1e-5, 4, PEER, note)


def softmax_rows(peer: ModuleType) -> Iterator[Row]:
    """The same for the softmax loss; the bar on time is set by this bench."""
    leaves = pairs()[:3]
    full = peer.ClipLoss()
    losses: dict[str, Loss] = {"full": lambda: full(*leaves), "ours": lambda: softmax_loss(*leaves)}
    found = time_interleaved(losses, leaves)
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
    """One of four processes: first as one of a pair, then as one of four, ours and open_clip's."""
    torch.set_num_threads(1)
    peer = load_peer()
    dist.init_process_group("gloo", init_method=f"file://{folder}/rendezvous", rank=rank, world_size=4)
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
    """2 and 4 processes compared with one, and the bytes that each of them saves."""
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
    note = f"largest relative difference of a gradient, {SHARE} pairs per process, gloo, averaged as in data parallel"
    yield Row("sigmoid loss, 2 and 4 processes", distance, "", "≤ 1e-5 of one process", distance <= 1e-5, 6, "", note)
    single = saved_bytes(lambda: sigmoid_loss(*pairs(SHARE)))
    yield Row(
        "sigmoid loss, saved bytes of 4 processes / of one",
        saved[1] / single,
        "times",
        "= 1 (flat in world size)",
        saved == [single, single],
        3,
        PEER,
        f"1, 2 and 4 processes: {single / MIB:.2f}, {saved[0] / MIB:.2f}, {saved[1] / MIB:.2f} MiB; "
        f"open_clip's exchange in 4 processes {theirs / MIB:.2f} MiB",
    )


def gradcache_rows() -> Iterator[Row]:
    """A batch of 4,096 in micro-batches of 64 compared with the whole batch, through two small towers."""
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

    micro_batches = list(zip(torch.split(data[0], 64), torch.split(data[1], 64), strict=True))
    times: dict[str, list[float]] = {"whole": [], "micro": []}
    for _ in range(3):
        start = time.perf_counter()
        wanted = torch.autograd.grad(whole(), leaves)
        times["whole"].append(time.perf_counter() - start)
        for leaf in leaves:
            leaf.grad = None
        start = time.perf_counter()
        grad_cache_step(lambda x: encode(0, x), lambda x: encode(1, x), loss, micro_batches)
        times["micro"].append(time.perf_counter() - start)
    distance = gap([leaf.grad for leaf in leaves if leaf.grad is not None], wanted)
    one = saved_bytes(lambda: encode(0, micro_batches[0][0]).sum() + encode(1, micro_batches[0][1]).sum()) / MIB
    yield Row(
        "gradient cache, batch 4,096 in micro-batches of 64, gradients",
        distance,
        "",
        "≤ 1e-5 of the full batch",
        distance <= 1e-5,
        len(leaves),
        "",
        f"saved for one micro-batch {one:.1f} MiB (weights included), for the whole batch "
        f"{saved_bytes(whole) / MIB:.0f} MiB; "
        f"{min(times['micro']) / min(times['whole']):.2f} × the time",
    )


def caption_rows() -> Iterator[Row]:
    """Cross-entropy with its output layer, a third of the positions padding; the bars are set by this bench."""
    positions, vocabulary = 1536, 16_384
    generator = torch.Generator().manual_seed(0)
    hidden = torch.randn(positions, WIDTH, generator=generator).requires_grad_()
    weight = (torch.randn(vocabulary, WIDTH, generator=generator) / 16).requires_grad_()
    target = torch.randint(vocabulary, (positions,), generator=generator)
    target[torch.rand(positions, generator=generator) < 1 / 3] = IGNORE
    losses: dict[str, Loss] = {
        "plain": lambda: F.cross_entropy(hidden @ weight.T, target, ignore_index=IGNORE, label_smoothing=0.1),
        "ours": lambda: linear_cross_entropy(hidden, weight, target, smoothing=0.1),
    }
    found = time_interleaved(losses, (hidden, weight), 5)
    everywhere = target.clamp(min=0)
    unpadded = time_interleaved(
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
        "≥ 1 × F.cross_entropy, no logits saved, ≤ 1e-5",
        ratio >= 1 and distance <= 1e-5 and saved["ours"] * MIB <= 4 * (positions + vocabulary) * WIDTH,
        5,
        "torch",
        f"{spread(found['plain'], found['ours'])}; a third of the positions is padding "
        f"(without: {without:.2f} ×), label smoothing 0.1; saved "
        f"{saved['ours']:.0f} MiB against {saved['plain']:.0f} MiB; gradients {distance:.1e}",
    )


def nested_rows() -> Iterator[Row]:
    """Four Matryoshka widths as in training, compared with one width and with a plain sum over the widths."""
    images, texts, scale, bias = leaves = pairs(2048, 768)
    dims = (96, 192, 384, 768)

    def summed() -> Tensor:
        return torch.stack(
            [sigmoid_loss(F.normalize(images[:, :d]), F.normalize(texts[:, :d]), scale, bias) for d in dims]
        ).sum()

    losses: dict[str, Loss] = {
        "one": lambda: sigmoid_loss(*leaves),
        "summed": summed,
        "ours": lambda: matryoshka(sigmoid_loss, (images, texts), dims, parameters=(scale, bias)),
    }
    timed = time_interleaved(losses, leaves, 5)
    distance = gap(timed["ours"].gradients, timed["summed"].gradients)
    saved = {key: saved_bytes(loss) / MIB for key, loss in losses.items()}
    ratio = timed["summed"].best / timed["ours"].best
    yield Row(
        "sigmoid loss at Matryoshka widths 96, 192, 384, 768, B=2,048, saved for the backward pass",
        saved["ours"] / saved["one"],
        "times",
        "≤ 1 × that of one width, ≤ 1e-5",
        saved["ours"] <= saved["one"] and distance <= 1e-5,
        1,
        "the plain sum over widths",
        f"{saved['ours']:.1f} MiB, plain sum {saved['summed']:.1f} MiB; {ratio:.2f} × as fast as the plain sum "
        f"({spread(timed['summed'], timed['ours'])}; one width {1000 * timed['one'].best:.0f} ms); "
        f"gradients {distance:.1e}",
    )


if __name__ == "__main__":
    sys.exit(0 if publish("training_losses", rows()) else 1)
