"""Training throughput: our loop compared with open_clip's and the Hugging Face Trainer.

Run alone with ``python bench/training_throughput.py``; about three minutes. All three train the same image tower on the
same images with the same augmentation, loss (CLIP), optimizer and gradient clipping, on one thread, interleaved a
few steps at a time; a ratio is that of the minimum times. Only the loop differs: ours also maintains an exponential
moving average of the weights, a log, a monitor and the record of samples. The other implementations are installed by
this bench into ``bench/.peers`` and use torch's ``DataLoader``, as their own scripts do.
"""

from __future__ import annotations

import subprocess
import sys
import tempfile
import time
import types
from argparse import Namespace
from collections.abc import Callable
from pathlib import Path
from statistics import median
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils.data import DataLoader, Dataset
from transformers import Trainer, TrainingArguments

from clerestory.stages.train.loader import AugmentConfig, augmented_batch
from clerestory.stages.train.loop import Run
from clerestory.stages.train.objectives import Captions
from clerestory.stages.train.optimizer import Optimizer
from table import Row, publish

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from tests.support.training_faults import start_run

PEERS = ("open_clip_torch==3.3.0", "torchvision==0.28.0", "timm==1.0.31", "ftfy==6.3.1", "wcwidth==0.9.4")
PLACE = Path(__file__).parent / ".peers" / "open-clip-train"
BATCH, TURN, TURNS, STEPS = 96, 5, 7, 10_000
# A tower large enough that the model dominates the time of a step.
SIZES = {"image_size": 48, "stem_channels": (32, 64, 128), "stem_residuals": (0, 1, 1), "width": 128, "layers": 3}
SIZES |= {"heads": 4, "mlp_ratio": 4}
SETTINGS: dict[str, Any] = {
    "batch_size": BATCH,
    "steps": STEPS,
    "loss": "softmax",
    "matryoshka_weight": 0.0,
    "keyword_prob": 0.0,
    "variant_prob": 0.0,
}
RATE = 1e-3
Turn = Callable[[], None]


def rows() -> list[Row]:
    """Both ratios."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        with tempfile.TemporaryDirectory() as scratch:
            sides = {
                "ours": ours(Path(scratch) / "ours"),
                "open_clip": open_clip(Path(scratch) / "open_clip"),
                "Trainer": hugging_face(Path(scratch) / "trainer"),
            }
            times: dict[str, list[float]] = {name: [] for name in sides}
            for number in range(TURNS + 1):
                for name, turn in sides.items():
                    started = time.perf_counter()
                    turn()
                    if number:  # the first turn warms up
                        times[name].append(time.perf_counter() - started)
    finally:
        torch.set_num_threads(before)
    return [_row(name, times) for name in ("open_clip", "Trainer")]


def _row(name: str, times: dict[str, list[float]]) -> Row:
    ratio = min(times[name]) / min(times["ours"])
    turns = [theirs / mine for theirs, mine in zip(times[name], times["ours"], strict=True)]
    speeds = {side: TURN * BATCH / min(times[side]) for side in ("ours", name)}
    note = (
        f"{speeds['ours']:.0f} and {speeds[name]:.0f} samples/s, one thread, minimum of {TURNS} rounds of {TURN} steps "
        f"of {BATCH}; single rounds {min(turns):.2f} to {max(turns):.2f}, median {median(turns):.2f}"
    )
    return Row(f"training samples/s against {name}", ratio, "×", "≥ 1.0×", ratio >= 1, TURNS, name, note)


def contrastive_run(folder: Path) -> Run:
    """A run with the contrastive loss only, which all three loops can train."""
    run = start_run(folder, sizes=SIZES, caption_share=0.0, caption_weight=0.0, **SETTINGS)
    run.objectives[0] = _ContrastiveOnly(run)
    for p in run.model.decoder.parameters():
        p.requires_grad_(False)
    run.optimizer = Optimizer(run.parameters(), 0.05, 10.0)
    return run


class _ContrastiveOnly(Captions):
    """Without captioning."""

    def __init__(self, run: Run) -> None:
        super().__init__(run.settings, run.train_data, run.model, run.processor)

    def caption_loss(self, *others: Any) -> dict[str, Any]:
        return {}


def ours(folder: Path) -> Turn:
    """Some steps of our loop."""
    run = contrastive_run(folder)

    def turn() -> None:
        for _ in range(TURN):
            run.step()

    return turn


class TrainBatches(Dataset[tuple[Tensor, Tensor]]):
    """The same images and texts in the same order, one batch per item."""

    def __init__(self, run: Run, turn: int) -> None:
        self.run, self.first = run, turn * TURN
        config = run.settings.config
        self.recipe = AugmentConfig(run.model.config.image_size, config.style_strength, config.seed)

    def __len__(self) -> int:
        return TURN

    def __getitem__(self, index: int) -> tuple[Tensor, Tensor]:
        sampler, train = self.run.sampler, self.run.train_data.train
        rows = sampler.draw(self.first + index)
        captions = self.run.objectives[0]
        assert isinstance(captions, Captions)
        pixels = augmented_batch(train.pixels_NHWC, rows, sampler.epoch(self.first + index), self.recipe)
        return pixels, captions.texts_ME[train.caption_N[rows]]


class Pair(nn.Module):
    """The image tower with the interface of open_clip's loop: features of both towers and the logit scale."""

    def __init__(self, run: Run) -> None:
        super().__init__()
        self.model, self.logit_scale = run.model, nn.Parameter(torch.tensor(20.0).log())

    def forward(self, images: Tensor, texts: Tensor) -> dict[str, Tensor]:
        features = self.model.get_image_features(images)
        return {"image_features": features, "text_features": texts, "logit_scale": self.logit_scale.exp()}


class WrappedOptimizer(torch.optim.Optimizer):
    """Our optimizer behind torch's interface."""

    def __init__(self, model: nn.Module) -> None:
        named = {name.removeprefix("model."): p for name, p in model.named_parameters() if p.requires_grad}
        self.inner = Optimizer(named, 0.05, 10.0)
        super().__init__(list(named.values()), {"lr": RATE})

    def step(self, closure: Any = None) -> None:  # type: ignore[override]  # no caller passes a closure
        self.inner.step(self.param_groups[0]["lr"])


def open_clip(folder: Path) -> Turn:
    """Some steps of open_clip's ``train_one_epoch``."""
    train_one_epoch, loss = _peer()
    run = contrastive_run(folder)
    model = Pair(run)
    optimizer, number = WrappedOptimizer(model), iter(range(STEPS))
    plain = {"distill": False, "skip_scheduler": False, "horovod": False, "wandb": False, "log_local": False}
    settings = Namespace(device="cpu", precision="fp32", accum_freq=1, grad_clip_norm=1.0, **plain)
    vars(settings).update(log_every_n_steps=100, rank=0, local_rank=0, world_size=1, batch_size=BATCH)

    def turn() -> None:
        loader = DataLoader(TrainBatches(run, next(number)), batch_size=None)
        vars(loader).update(num_batches=TURN, num_samples=TURN * BATCH)
        data = {"train": types.SimpleNamespace(dataloader=loader, set_epoch=lambda epoch: None)}
        train_one_epoch(model, data, loss, 0, optimizer, None, lambda step: None, None, settings)

    return turn


def hugging_face(folder: Path) -> Turn:
    """Some steps of the Hugging Face Trainer; one call of ``train`` per turn."""
    run = contrastive_run(folder)
    model = Pair(run)
    _, loss = _peer()
    optimizer, number = WrappedOptimizer(model), iter(range(STEPS))
    arguments = TrainingArguments(
        output_dir=str(folder), max_steps=TURN, max_grad_norm=1.0, report_to=[], save_strategy="no", use_cpu=True
    )
    vars(arguments).update(logging_strategy="no", disable_tqdm=True, remove_unused_columns=False)

    class Contrastive(Trainer):
        def compute_loss(self, model: nn.Module, inputs: Any, *others: Any, **more: Any) -> Tensor:
            value: Tensor = loss(**model(*inputs))
            return value

        def get_train_dataloader(self) -> DataLoader[Any]:
            return DataLoader(TrainBatches(run, next(number)), batch_size=None)

    schedule = torch.optim.lr_scheduler.LambdaLR(optimizer, lambda step: 1.0)
    trainer = Contrastive(model, arguments, train_dataset=TrainBatches(run, 0), optimizers=(optimizer, schedule))

    def turn() -> None:
        trainer.train()

    return turn


def _peer() -> tuple[Callable[..., None], nn.Module]:
    """open_clip's loop and loss."""
    if not (PLACE / "open_clip_train").is_dir():
        pip = [sys.executable, "-m", "pip", "--disable-pip-version-check", "install", "--quiet", "--no-deps"]
        subprocess.run([*pip, "--target", str(PLACE), *PEERS], check=True)
    if str(PLACE) not in sys.path:
        sys.path.append(str(PLACE))
        # torchvision's compiled operators do not load with a CPU build of torch. None is used here, but its import
        # needs these names.
        for name in ("nms", "qnms"):
            torch.library.define(f"torchvision::{name}", "(Tensor dets, Tensor scores, float threshold) -> Tensor")
    from open_clip.loss import ClipLoss  # type: ignore[import-not-found]  # installed by the bench
    from open_clip_train.train import train_one_epoch  # type: ignore[import-not-found]  # the same

    return train_one_epoch, ClipLoss()


if __name__ == "__main__":
    sys.exit(0 if publish("training_throughput", rows()) else 1)
