"""The bars of the mixture of experts: time against a dense MLP and Hugging Face, no dropped token, balance, upcycling.

Run alone with ``python bench/training_moe.py``; about a minute and a half on one core. All sides of a comparison run in
one process of one thread, taking turns; a ratio is that of the least times, and the note has the middle half of the
ratios of single rounds. Hugging Face's experts work on the very same weight tensors with the same routing.
"""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable, Iterator

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from transformers.models.mixtral.configuration_mixtral import MixtralConfig
from transformers.models.mixtral.modeling_mixtral import MixtralExperts

from clerestory.models import ClerestoryModel, preset_config
from clerestory.models.moe import LossWeights, MixtureOfExperts, Mlp, grouped_linear
from clerestory.models.moe.balancing import ExpertLoad, rebalance
from clerestory.models.upcycle import upcycle_model
from table import Row, publish

WIDTH, EXPERTS, TOP_K, HIDDEN = 256, 8, 2, 512
ROUNDS = {2048: 16, 64: 120, 1: 200}
Call = Callable[[Tensor], Tensor]


def rows() -> list[Row]:
    """Every bar of the mixture, measured on one thread."""
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
        return moe.apply_experts(x_ND, routing.experts_NK, routing.weights_NK)

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
        f"{low:.2f} to {high:.2f}, median {statistics.median(each):.2f}; D={WIDTH}, F={HIDDEN}, E={EXPERTS}, K={TOP_K}",
    )


def routing_rows() -> Iterator[Row]:
    """Adversarial routing, token by token; double precision."""
    wrong = cases = 0
    for seed, (name, gate) in enumerate(
        [("one", 1.0), ("empty", 0.0), ("random", None), ("none", None), ("padded", None)]
    ):
        torch.manual_seed(seed)
        moe = MixtureOfExperts(16, 8, EXPERTS, TOP_K, kind="swiglu", balance_with_bias=True)
        assert moe.expert_bias_E is not None
        if gate is not None:
            # All to the same two experts, or to the even ones only.
            moe.expert_bias_E[:2] += 9 * gate
            moe.expert_bias_E[::2] += 9 * (1 - gate)
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


def reference(moe: MixtureOfExperts, x_D: Tensor) -> Tensor:
    """One token through the best experts by score plus bias, with scores as weights."""
    scores_E = (moe.gate.weight @ x_D).softmax(0)
    assert moe.expert_bias_E is not None
    chosen = (scores_E + moe.expert_bias_E).topk(moe.top_k).indices.tolist()
    total, y_D = scores_E[chosen].sum(), torch.zeros_like(x_D)
    for e in chosen:
        gate_F, up_F = (moe.first_EGD[e] @ x_D).chunk(2)
        y_D += scores_E[e] / total * (moe.down_EDF[e] @ (F.silu(gate_F) * up_F))
    return y_D


def upcycling_rows() -> Iterator[Row]:
    """A dense ``nano`` and its upcycled versions, on random images."""
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


BATCH, TOKENS, SMALL, SEEDS = 8, 50, 16, 5
BALANCING = {"bias": (True, 0.0), "loss": (False, 1.0), "both": (True, 1.0)}  # of expert_balance: bias, switch weight


def balance_rows() -> Iterator[Row]:
    """Each way of balancing, and none: tokens with a common direction, top 2 of 8, a short training; the worst seed."""
    note = f"{SEEDS} seeds, 400 steps"
    for name, (expert_bias, switch) in BALANCING.items():
        worst = max(load_after_training(seed, expert_bias, switch) for seed in range(SEEDS))
        title = f"load of the experts, max over mean, expert_balance {name}"
        yield Row(title, worst, "", "≤ 1.25", worst <= 1.25, SEEDS, note=note)
    best = min(load_after_training(seed, False, 0.0) for seed in range(SEEDS))
    title = "load of the experts, max over mean, without balancing"
    yield Row(title, best, "", "> 1.25 (ablation)", best > 1.25, SEEDS, note=f"the lowest of {note}")


def batch(step: int) -> Tensor:
    """Tokens with a strong common direction."""
    direction = torch.randn(SMALL, generator=torch.Generator().manual_seed(77))
    return torch.randn(BATCH, TOKENS, SMALL, generator=torch.Generator().manual_seed(step)) + direction


def load_after_training(seed: int, expert_bias: bool, switch: float) -> float:
    """Max over mean of the load on new tokens, after a mixture was fitted to a random function."""
    torch.manual_seed(seed)
    losses = LossWeights(switch=switch)
    moe = MixtureOfExperts(SMALL, 8, EXPERTS, TOP_K, kind="swiglu", balance_with_bias=expert_bias, losses=losses)
    teacher = torch.randn(SMALL, SMALL) / SMALL**0.5
    optimizer = torch.optim.Adam(moe.parameters(), 1e-2)
    for step in range(400):
        x = batch(step)
        y, loss = moe(x)
        optimizer.zero_grad()
        ((y - torch.tanh(x @ teacher)).square().mean() + 0.1 * loss).backward()
        optimizer.step()
        rebalance(moe, update_speed=0.01 if step < 200 else 0.001)
    with torch.no_grad():
        chosen = [moe.eval().route(batch(step).flatten(0, 1)).experts_NK for step in range(10_000, 10_050)]
    return ExpertLoad(tuple(torch.bincount(torch.cat(chosen).flatten(), minlength=EXPERTS).tolist())).max_over_mean


if __name__ == "__main__":
    publish("training_moe", rows())
