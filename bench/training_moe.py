"""The mixture's promises: time against a dense MLP and against Hugging Face, nothing dropped, balance, upcycling.

Run alone with ``python bench/training_moe.py``; about a minute and a half on one core. All sides of a comparison run in
one process of one thread, taking turns; a ratio is that of the least times, and the note has the middle half of the
ratios of single rounds. Hugging Face's experts work on the very same weight tensors with the same routing.
"""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable, Iterator
from dataclasses import replace

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from transformers.models.mixtral.configuration_mixtral import MixtralConfig
from transformers.models.mixtral.modeling_mixtral import MixtralExperts

from clerestory.models import ClerestoryModel, preset_config
from clerestory.models.moe import IMAGE, TEXT, LossWeights, MixtureOfExperts, Mlp, grouped_linear
from clerestory.models.moe.balancing import rebalance
from clerestory.models.moe.exporting import exportable
from clerestory.models.upcycled import upcycle_model
from table import Row, publish

WIDTH, EXPERTS, TOP_K, HIDDEN = 256, 8, 2, 512
ROUNDS = {2048: 16, 64: 120, 1: 200}
Call = Callable[[Tensor], Tensor]


def rows() -> list[Row]:
    """Every promise of the mixture, measured on one thread."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        return [*speed_rows(), *routing_rows(), *upcycling_rows(), *balance_rows()]
    finally:
        torch.set_num_threads(threads)


class Separate(nn.Module):
    """A dense SwiGLU of three matrices, as most models write it."""

    def __init__(self, width: int, hidden: int) -> None:
        super().__init__()
        self.gate, self.up = nn.Linear(width, hidden, bias=False), nn.Linear(width, hidden, bias=False)
        self.down = nn.Linear(hidden, width, bias=False)

    def forward(self, x_ND: Tensor) -> Tensor:
        y: Tensor = self.down(F.silu(self.gate(x_ND)) * self.up(x_ND))
        return y


def speed_rows() -> Iterator[Row]:
    """Forward and backward in fp32 with the gradients of everything."""
    torch.manual_seed(0)
    moe = MixtureOfExperts(WIDTH, HIDDEN, EXPERTS, TOP_K, kind="swiglu").train()
    stacked, separate = Mlp(WIDTH, TOP_K * HIDDEN, "swiglu"), Separate(WIDTH, TOP_K * HIDDEN)

    def layer(x_ND: Tensor) -> Tensor:
        y_ND, loss = moe(x_ND)
        return torch.cat([y_ND.flatten(), loss[None]])

    def own(x_ND: Tensor) -> Tensor:
        routing = moe.route(x_ND)
        return moe.mix(x_ND, routing.experts_NK, routing.weights_NK)

    sides: dict[str, tuple[Call, nn.Module]] = {
        "layer": (layer, moe),
        "own": (own, moe),
        "stacked": (stacked, stacked),
        "separate": (separate, separate),
        "grouped": (hugging_face(moe, "grouped_mm"), moe),
        "eager": (hugging_face(moe, "eager"), moe),
    }
    for tokens, rounds in ROUNDS.items():
        times = interleaved(sides, tokens, rounds)
        dense = min(("stacked", "separate"), key=lambda name: min(times[name]))
        yield _ratio(
            times, "layer", dense, tokens, "dense SwiGLU of equal active FLOPs", 0.80 if tokens == 2048 else None
        )
        yield _ratio(times, "own", "grouped", tokens, "Hugging Face grouped_mm", 1.0 if tokens == 2048 else None)
        yield _ratio(times, "own", "eager", tokens, "Hugging Face eager", 2.5 if tokens == 64 else None)


def hugging_face(moe: MixtureOfExperts, implementation: str) -> Call:
    """Mixtral's experts over the mixture's own weights and routing."""
    config = MixtralConfig(hidden_size=WIDTH, intermediate_size=HIDDEN, num_local_experts=EXPERTS, hidden_act="silu")
    config._experts_implementation = implementation
    experts = MixtralExperts(config)
    experts.gate_up_proj, experts.down_proj = moe.gate_up_proj, moe.down_proj

    def run(x_ND: Tensor) -> Tensor:
        routing = moe.route(x_ND)
        y_ND: Tensor = experts(x_ND, routing.experts_NK, routing.weights_NK)
        return y_ND

    return run


def interleaved(sides: dict[str, tuple[Call, nn.Module]], tokens: int, rounds: int) -> dict[str, list[float]]:
    """Seconds of each side in each round; two rounds to warm up are left out."""
    x_ND = torch.randn(tokens, WIDTH, requires_grad=True)
    times: dict[str, list[float]] = {name: [] for name in sides}
    for _ in range(rounds + 2):
        for name, (call, module) in sides.items():
            x_ND.grad = None
            module.zero_grad(set_to_none=True)
            start = time.perf_counter()
            y_ND = call(x_ND)
            y_ND.backward(torch.ones_like(y_ND))  # type: ignore[no-untyped-call]  # torch leaves it without types
            times[name].append(time.perf_counter() - start)
    return {name: seconds[2:] for name, seconds in times.items()}


def _ratio(times: dict[str, list[float]], ours: str, theirs: str, tokens: int, against: str, bar: float | None) -> Row:
    value = min(times[theirs]) / min(times[ours])
    each = sorted(b / a for a, b in zip(times[ours], times[theirs], strict=True))
    low, high = each[len(each) // 4], each[3 * len(each) // 4]
    return Row(
        f"mixture, {tokens:,} tokens, forward and backward",
        value,
        "times as fast",
        "reported" if bar is None else f"≥ {bar:.2f}",
        bar is None or value >= bar,
        len(each),
        against=against,
        note=f"against {against}: {1000 * min(times[ours]):.2f} and {1000 * min(times[theirs]):.2f} ms; single rounds "
        f"{low:.2f} to {high:.2f}, middle {statistics.median(each):.2f}; D={WIDTH}, F={HIDDEN}, E={EXPERTS}, K={TOP_K}",
    )


def routing_rows() -> Iterator[Row]:
    """Routing nobody would wish for, token by token; double precision; the exported form."""
    wrong = cases = 0
    for seed, (name, gate) in enumerate(
        [("one", 1.0), ("empty", 0.0), ("random", None), ("none", None), ("padded", None)]
    ):
        torch.manual_seed(seed)
        moe = MixtureOfExperts(16, 8, EXPERTS, TOP_K, kind="swiglu", steered=True)
        assert moe.bias_E is not None
        if gate is not None:
            # All to the same two experts, or to the even ones only.
            moe.bias_E[:2] += 9 * gate
            moe.bias_E[::2] += 9 * (1 - gate)
        x = torch.randn(0 if name == "none" else 200, 16)
        kept = torch.rand(200) > 0.5 if name == "padded" else torch.ones(len(x), dtype=torch.bool)
        y, _ = moe.train()(x, kept)
        wrong += int(moe.counts_E.sum()) != TOP_K * int(kept.sum())
        for n in range(len(x)):
            cases += 1
            expected = reference(moe, x[n]) if kept[n] else torch.zeros(16)
            wrong += not torch.allclose(y[n], expected, rtol=1e-4, atol=1e-6)
    bar = "0"
    note = "all to two experts, half of them empty, random, no token, padding"
    yield Row("tokens dropped, padded or wrong under adversarial routing", wrong, "tokens", bar, wrong == 0, cases,
              against="per-token reference", note=note)  # fmt: skip
    torch.manual_seed(0)
    x = torch.randn(9, 3, dtype=torch.float64, requires_grad=True)
    w = torch.randn(4, 5, 3, dtype=torch.float64, requires_grad=True)
    splits = ([4, 4, 7, 9], [9, 9, 9, 9], [0, 0, 0, 9])
    passed = sum(
        torch.autograd.gradcheck(lambda x, w, ends=ends: grouped_linear(x, w, torch.tensor(ends)), (x, w))
        for ends in splits
    )
    yield Row("gradcheck of the fallback, fp64", passed, "of 3 splits", "3", passed == 3, 3)
    moe = MixtureOfExperts(64, 64, EXPERTS, TOP_K, kind="swiglu", shared=1).eval()
    with torch.no_grad():
        apart = max(float((exportable(moe)(x)[0] - moe(x)[0]).abs().max()) for x in torch.randn(5, 300, 64))
    yield Row("exportable form against the layer, largest difference", apart, "", "≤ 1e-6", apart <= 1e-6, 5 * 300)


def reference(moe: MixtureOfExperts, x_D: Tensor) -> Tensor:
    """One token through the best experts by score plus bias, with scores as weights."""
    scores_E = (moe.gate.weight @ x_D).softmax(0)
    assert moe.bias_E is not None
    chosen = (scores_E + moe.bias_E).topk(moe.top_k).indices.tolist()
    total, y_D = scores_E[chosen].sum(), torch.zeros_like(x_D)
    for e in chosen:
        gate_F, up_F = (moe.first_EGD[e] @ x_D).chunk(2)
        y_D += scores_E[e] / total * (moe.down_EDF[e] @ (F.silu(gate_F) * up_F))
    return y_D


def upcycling_rows() -> Iterator[Row]:
    """A dense ``nano`` and what becomes of it, on random pictures."""
    torch.manual_seed(0)
    dense = ClerestoryModel(preset_config("nano", vocab_size=500))
    dense.train(False)
    with torch.no_grad():
        for p in dense.parameters():
            p.add_(torch.randn_like(p) * 0.02)
        pixels = torch.randn(16, 3, dense.config.image_size, dense.config.image_size)
        for split, words in ((False, "each expert the whole MLP"), (True, "each expert a slice: equal FLOPs")):
            made = upcycle_model(dense, 8, 2, split=split, decoder_experts=8)
            apart = float((made(pixels).image_embeds - dense(pixels).image_embeds).abs().max())
            yield Row("upcycled nano at step 0, largest difference of an embedding", apart, "", "≤ 1e-6", apart <= 1e-6,
                      len(pixels), against="dense nano", note=words)  # fmt: skip


BATCH, IMAGE_TOKENS, TEXT_TOKENS, SMALL, KEPT = 8, 50, 2, 16, 4
LOSSES = LossWeights(switch=0.0, z=0.01, local=1.0, spread=4.0, least=6)
SEEDS = 5


def balance_rows() -> Iterator[Row]:
    """50 image and 2 text tokens of each pair, top 2 of 8, a short optimisation, fresh tokens; the worst seed."""
    note = f"{SEEDS} seeds, 400 steps; an expert is kept by a modality that sends it 5 % of its choices"
    found = [balanced(seed, LOSSES) for seed in range(SEEDS)]
    worst = max(ratio for ratio, _, _ in found)
    yield Row("load on 50/2 image/text tokens, max over mean", worst, "", "≤ 1.25", worst <= 1.25, SEEDS, note=note)
    fewest = min(min(image, text) for _, image, text in found)
    said = f"{note}; text keeps {', '.join(str(text) for _, _, text in found)}"
    yield Row(
        f"experts each modality keeps, k = {KEPT}", fewest, "experts", f"≥ {KEPT}", fewest >= KEPT, SEEDS, note=said
    )
    for name, losses, bar in (
        ("without both entropy losses", replace(LOSSES, local=0.0, spread=0.0), KEPT),
        ("with the local loss alone", replace(LOSSES, spread=0.0), None),
        ("with the global loss alone", replace(LOSSES, local=0.0), None),
    ):
        kept = [balanced(seed, losses)[2] for seed in range(SEEDS)]
        words, holds = ("reported", True) if bar is None else (f"< {bar} (ablation)", max(kept) < bar)
        note = f"the most of {SEEDS} seeds: {', '.join(map(str, kept))}"
        yield Row(f"experts text keeps {name}", max(kept), "experts", words, holds, SEEDS, note=note)


def pairs(step: int) -> tuple[Tensor, Tensor]:
    """Tokens and modalities; what tells texts apart is small beside what they have in common."""
    random = torch.Generator().manual_seed(step)
    directions = torch.randn(2, SMALL, generator=torch.Generator().manual_seed(77))
    image = torch.randn(BATCH, IMAGE_TOKENS, SMALL, generator=random) + directions[IMAGE]
    text = 0.5 * torch.randn(BATCH, TEXT_TOKENS, SMALL, generator=random) + 2 * directions[TEXT]
    modality = torch.tensor([IMAGE] * IMAGE_TOKENS + [TEXT] * TEXT_TOKENS).expand(BATCH, -1)
    return torch.cat([image, text], dim=1), modality


def balanced(seed: int, losses: LossWeights) -> tuple[float, int, int]:
    """Max over mean of the load, and how many experts images and texts keep, after learning a random function."""
    torch.manual_seed(seed)
    moe = MixtureOfExperts(SMALL, 8, EXPERTS, TOP_K, kind="swiglu", steered=True, losses=losses)
    teacher = torch.randn(SMALL, SMALL) / SMALL**0.5
    optimizer = torch.optim.Adam(moe.parameters(), 1e-2)
    for step in range(400):
        x, modality = pairs(step)
        y, loss = moe(x, None, modality)
        optimizer.zero_grad()
        ((y - torch.tanh(x @ teacher)).square().mean() + 0.1 * loss).backward()
        optimizer.step()
        rebalance(moe, rate=0.01 if step < 200 else 0.001)
    counts = torch.zeros(2, EXPERTS)
    with torch.no_grad():
        for step in range(10_000, 10_050):
            x, modality = pairs(step)
            chosen = moe.eval().route(x.flatten(0, 1)).experts_NK
            for m in (IMAGE, TEXT):
                counts[m] += torch.bincount(chosen[modality.flatten() == m].flatten(), minlength=EXPERTS)
    image, text = ((counts / counts.sum(1, keepdim=True)) >= 0.05).sum(1).tolist()
    load = counts.sum(0)
    return float(load.max() / load.mean()), image, text


if __name__ == "__main__":
    publish("training_moe", rows())
