"""Learning from pictures alone: every loss against an oracle, the pool, the teacher, and exact resume."""

from __future__ import annotations

import math
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from scipy import integrate
from tests.support.shapes import shapes
from torch import Tensor, nn
from torch.nn import functional as F

from clerestory.core.codec import decode
from clerestory.core.errors import ConfigError, InputError
from clerestory.core.progress import QUIET
from clerestory.core.sample import Dataset
from clerestory.models import open_model
from clerestory.models.presets import preset_config
from clerestory.stages.train import TrainConfig
from clerestory.stages.train import run as stage
from clerestory.stages.train.checkpoint import read
from clerestory.stages.train.ema import ema_update
from clerestory.stages.train.loop import Run
from clerestory.stages.train.objectives import SelfDistillation, SelfSupervised
from clerestory.stages.train.objectives import selfsup_lejepa as gaussian
from clerestory.stages.train.objectives import selfsup_masked as masked
from clerestory.stages.train.objectives.distillation_losses import distillation_loss, masked_token_loss, update_centre
from clerestory.stages.train.objectives.selfsup_views import ViewHead, view_contrast
from clerestory.stages.train.objectives.unlabelled_sampler import UnlabelledSampler, random_crop
from clerestory.stages.train.selfsup_config import SelfSupervision

TINY = TrainConfig(preset="tiny", steps=12, batch_size=12, threads=1, checkpoint_every=4, validate_every=0)


def random_rows(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def half_labelled() -> Dataset:
    """The shapes, of which every other training concept has lost its captions and its name."""
    data = shapes()
    bare = {c for i, c in enumerate(sorted({s.concept for s in data if s.split == "train"})) if i % 2}
    return Dataset("half", [replace(s, captions=(), concept="") if s.concept in bare else s for s in data], data.read)


@pytest.fixture(scope="module")
def data() -> Dataset:
    return half_labelled()


def prepare_run(data: Dataset, folder: Path, **settings: object) -> Run:
    config = replace(TINY, self_supervision=decode(SelfSupervision, {"batch_size": 16, **settings}))
    folder.mkdir(exist_ok=True)
    return stage.prepare_run(data, config.resolved(), folder, QUIET)


# -- the losses ---------------------------------------------------------------------------------------------------


def test_view_contrast_equals_the_naive_loop() -> None:
    first, second, tau = random_rows(5, 7), random_rows(5, 7, seed=1), 0.2
    rows = [*first, *second]
    total_loss = 0.0
    for i, row in enumerate(rows):
        cosines = [float(F.cosine_similarity(row, other, dim=0)) / tau for other in rows]
        own = cosines[(i + 5) % 10]
        total_loss += math.log(sum(math.exp(c) for j, c in enumerate(cosines) if j != i)) - own
    assert view_contrast(first, second, tau).item() == pytest.approx(total_loss / 10, rel=1e-5)
    assert view_contrast(first, first, 0.01) < 1e-3, "equal views of different pictures cost nothing"
    with pytest.raises(InputError, match="cannot be contrasted"):
        view_contrast(first, second[:3], tau)


def test_epps_pulley_equals_its_integral_and_its_closed_form() -> None:
    values = random_rows(40).double() * 1.7 + 0.4
    x = values.numpy()

    def integrand(t: float) -> float:
        gap = abs(np.exp(1j * t * x).mean() - math.exp(-t * t / 2)) ** 2
        return float(gap * math.exp(-t * t / 2))

    expected = len(x) * integrate.quad(integrand, -np.inf, np.inf)[0]
    assert gaussian.exact_epps_pulley(values).item() == pytest.approx(expected, rel=1e-6)
    assert gaussian.epps_pulley(values[:, None]).item() == pytest.approx(expected, rel=1e-3)
    many = torch.stack([values, random_rows(40, seed=3).double()], dim=1)
    torch.testing.assert_close(gaussian.epps_pulley(many)[0], gaussian.epps_pulley(values[:, None])[0])


def test_sigreg_tells_a_gaussian_from_a_collapse() -> None:
    directions = gaussian.random_directions(8, 64, torch.Generator().manual_seed(0))
    torch.testing.assert_close(directions.norm(dim=0), torch.ones(64))
    normal = random_rows(500, 8)
    good = gaussian.sigreg(normal, directions)
    assert good < 2
    flat = normal.clone()
    flat[:, 4:] = 0  # half of the dimensions collapsed
    for wrong in (torch.zeros(500, 8), normal * 3, normal + 2, flat):
        assert gaussian.sigreg(wrong, directions) > 5 * good


def test_lejepa_is_the_weighted_sum_of_its_two_halves() -> None:
    views = random_rows(2, 30, 6)
    directions = gaussian.random_directions(6, 16, torch.Generator().manual_seed(1))
    gap = sum(float((view - views.mean(0)).square().mean()) for view in views) / 2
    normality = float(np.mean([[gaussian.exact_epps_pulley(view @ d).item() for d in directions.T] for view in views]))
    assert gaussian.lejepa(views, directions, 0.3).item() == pytest.approx(0.7 * gap + 0.3 * normality, rel=1e-3)
    with pytest.raises(InputError, match="cannot agree"):
        gaussian.lejepa(views[:1], directions, 0.3)


def test_the_share_of_hidden_cells_is_exact_and_leaves_something_on_both_sides() -> None:
    random = torch.Generator().manual_seed(0)
    hidden = masked.random_mask(200, 64, 0.4, random)
    assert (hidden.sum(dim=1) == round(0.4 * 64)).all()
    assert (hidden.float().mean(dim=0) - 0.4).abs().max() < 0.15, "every cell is hidden equally often"
    assert masked.random_mask(3, 4, 0.0, random).sum(dim=1).tolist() == [1, 1, 1]
    assert masked.random_mask(3, 4, 1.0, random).sum(dim=1).tolist() == [3, 3, 3]


def test_hidden_pixels_cannot_be_seen_by_the_first_layer() -> None:
    pixels = random_rows(4, 3, 24, 24)
    hidden = masked.random_mask(4, 36, 0.5, torch.Generator().manual_seed(0))
    other = pixels + 5 * masked.apply_mask(torch.zeros_like(pixels), hidden, torch.ones(3))
    assert not torch.equal(pixels, other)
    colour = torch.tensor([0.1, 0.2, 0.3])
    torch.testing.assert_close(masked.apply_mask(pixels, hidden, colour), masked.apply_mask(other, hidden, colour))
    covered = masked.patchify(masked.apply_mask(pixels, hidden, colour), 6)
    torch.testing.assert_close(
        covered[hidden].view(-1, 3, 16), colour[None, :, None].expand(len(covered[hidden]), 3, 16)
    )
    torch.testing.assert_close(covered[~hidden], masked.patchify(pixels, 6)[~hidden])


def test_cells_are_squares_in_reading_order_and_the_decoder_puts_tokens_where_they_belong() -> None:
    pixels = random_rows(2, 3, 8, 8)
    cells = masked.patchify(pixels, 4)
    torch.testing.assert_close(cells[1, 6], pixels[1, :, 2:4, 4:6].reshape(-1))
    config = preset_config("tiny")  # 24 pixels, 3 x 3 tokens of 8 pixels, 4 x 4 cells of 2 pixels in each
    decoder = masked.PixelDecoder(config, per_token=4)
    tokens = torch.zeros(1, 9, config.width)
    quiet = decoder(tokens)
    tokens[0, 5] = 1.0  # middle row, last column
    changed = (decoder(tokens) != quiet).any(dim=-1).view(12, 12)
    assert changed[4:8, 8:12].all()
    assert changed.sum() == 16
    with pytest.raises(ConfigError, match="cannot be divided"):
        masked.PixelDecoder(config, per_token=5)


def test_the_masked_loss_looks_at_hidden_cells_alone_normalised() -> None:
    pixels = random_rows(2, 3, 8, 8)
    hidden = masked.random_mask(2, 16, 0.25, torch.Generator().manual_seed(0))
    predicted = random_rows(2, 16, 12, seed=2)
    errors = []
    for b, n in hidden.nonzero().tolist():
        cell = masked.patchify(pixels, 4)[b, n].double().numpy()
        wanted = (cell - cell.mean()) / math.sqrt(cell.var() + masked.VARIANCE_EPS)
        errors.append(((predicted[b, n].numpy() - wanted) ** 2).mean())
    assert masked.masked_loss(predicted, pixels, hidden).item() == pytest.approx(np.mean(errors), rel=1e-5)
    blank = masked.normalise_cells(torch.full((1, 1, 12), 0.9))
    assert blank.abs().max() < 1e-4, "a cell of one colour is not blown up"


def test_batch_norm_forgets_pictures_with_holes() -> None:
    head, x = nn.Sequential(nn.BatchNorm2d(3)), random_rows(4, 3, 5, 5) + 3
    before = {k: v.clone() for k, v in head.state_dict().items()}
    with masked.frozen_batch_norm_statistics(head):
        inside = head(x)
    assert all(torch.equal(v, before[k]) for k, v in head.state_dict().items())
    torch.testing.assert_close(inside, head(x))
    assert not torch.equal(head.state_dict()["0.running_mean"], before["0.running_mean"])
    assert not list(ViewHead(4, 8, 2).buffers()), "a skipped step must leave nothing behind"


def test_the_teacher_follows_by_the_formula() -> None:
    teacher = {"w": torch.tensor([1.0, 2.0]), "n": torch.tensor(1)}
    students = [{"w": random_rows(2, seed=i), "n": torch.tensor(i + 5)} for i in range(4)]
    expected = teacher["w"].double()
    for student in students:
        expected = 0.9 * expected + 0.1 * student["w"].double()
        ema_update(teacher.values(), student.values(), 0.9)
    torch.testing.assert_close(teacher["w"].double(), expected, rtol=1e-6, atol=1e-6)
    assert teacher["n"] == 8


def test_distillation_equals_the_naive_loop_and_its_gradient_reaches_the_student_alone() -> None:
    student, teacher, bank = (F.normalize(random_rows(n, 6, seed=n), dim=1) for n in (3, 4, 5))
    teacher = teacher[:3]
    centre = random_rows(5, seed=4) * 0.1
    total_loss = 0.0
    for i in range(3):
        said = [math.exp((float(teacher[i] @ bank[n]) - float(centre[n])) / 0.02) for n in range(5)]
        answer = [math.exp(float(student[i] @ bank[n]) / 0.05) for n in range(5)]
        total_loss -= sum(s / sum(said) * math.log(a / sum(answer)) for s, a in zip(said, answer, strict=True))
    student.requires_grad_()
    teacher.requires_grad_()
    loss = distillation_loss(student, teacher, bank, centre, 0.05, 0.02)
    assert loss.item() == pytest.approx(total_loss / 3, rel=1e-4)
    loss.backward()
    assert student.grad is not None
    assert teacher.grad is None
    before = centre.clone()
    update_centre(centre, teacher, bank, 0.9)
    torch.testing.assert_close(centre, 0.9 * before + 0.1 * (teacher.detach() @ bank.T).mean(dim=0))


def test_hidden_tokens_alone_are_compared() -> None:
    student, teacher = random_rows(2, 4, 6), random_rows(2, 4, 6, seed=1)
    hidden = torch.tensor([[True, False, False, False], [False, False, True, True]])
    expected = np.mean(
        [1 - float(F.cosine_similarity(student[b, t], teacher[b, t], dim=0)) for b, t in ((0, 0), (1, 2), (1, 3))]
    )
    assert masked_token_loss(student, teacher, hidden).item() == pytest.approx(expected, rel=1e-5)


# -- what is drawn ------------------------------------------------------------------------------------------------


def test_pictures_without_captions_are_learnt_from_and_others_are_not(data: Dataset, tmp_path: Path) -> None:
    run = prepare_run(data, tmp_path, method="slip")
    bare = [s for s in data if s.split == "train" and not s.caption]
    plain = [s for s in bare if s.groups["skin_tone"] == "none"]
    assert len(run.train_data.unlabelled_UHWC) == len(plain) > 0
    assert len(bare) > len(plain), "variants are left out"
    pool = UnlabelledSampler(run.train_data, 16, 24, 0, "test")
    labelled = sum(len(c.plain) for c in run.train_data.concepts)
    assert len(pool) == labelled + len(plain)
    drawn = np.concatenate([pool.draw(step)[0] for step in range(len(pool))])
    assert set(np.bincount(drawn, minlength=max(drawn) + 1)[np.unique(drawn)]) == {16}, "each equally often"
    assert len(np.unique(drawn)) == len(pool)
    rows, epochs = pool.draw(5)
    torch.testing.assert_close(pool.view(rows, epochs, 1.0, "one"), pool.view(rows, epochs, 1.0, "one"))
    assert not torch.equal(pool.view(rows, epochs, 1.0, "one"), pool.view(rows, epochs, 1.0, "two"))
    captioned = {data[s.id].caption for s in data if s.split == "train" and s.caption}
    assert {run.train_data.train.texts[i] for i in run.train_data.train.captions.tolist()} == captioned


def test_without_self_supervision_they_are_counted_and_named(data: Dataset, tmp_path: Path) -> None:
    run = stage.prepare_run(data, TINY.resolved(), tmp_path, QUIET)
    bare = sum(1 for s in data if s.split == "train" and not s.caption)
    assert (len(run.train_data.unlabelled_UHWC), run.train_data.unused) == (0, bare)
    (finding,) = [f for f in stage._findings(run) if f.code == "CLR-T003"]
    assert str(bare) in finding.message
    assert not [f for f in stage._findings(prepare_run(data, tmp_path, method="slip")) if f.code == "CLR-T003"]


def test_a_part_is_a_square_of_the_picture() -> None:
    pixels = torch.arange(2 * 10 * 10 * 3, dtype=torch.int32).view(2, 10, 10, 3)
    part = random_crop(pixels, np.array([[0.0, 0.999], [0.5, 0.3]]), share=0.6)
    torch.testing.assert_close(part[0], pixels[0, 0:6, 4:10])
    torch.testing.assert_close(part[1], pixels[1, 2:8, 1:7])


# -- in the loop --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("method", ["slip", "lejepa", "masked"])
def test_what_is_learnt_from_pictures_alone_gets_better(method: str, data: Dataset, tmp_path: Path) -> None:
    run = prepare_run(data, tmp_path, method=method)
    (objective,) = [o for o in run.objectives if isinstance(o, SelfSupervised)]
    first = objective.losses(run.context(0))[method].value.item()
    for _ in range(30):
        run.step()
    last = np.mean([objective.losses(run.context(n))[method].value.item() for n in range(3)])
    assert last < 0.9 * first


def test_the_teacher_speaks_late_and_is_in_no_saved_model(data: Dataset, tmp_path: Path) -> None:
    run = prepare_run(data, tmp_path, method="none", teacher_share=0.25)
    (teacher,) = [o for o in run.objectives if isinstance(o, SelfDistillation)]
    names = [set(run.losses(run.context(number))) for number in (0, 8, 9, 11)]
    assert [n >= {"distillation", "masked_tokens"} for n in names] == [False, False, True, True]
    before = teacher.tower.position_TD.clone()
    for _ in range(10):
        run.step()
    assert not torch.equal(teacher.tower.position_TD, before)
    assert not torch.equal(teacher.tower.position_TD, run.model.image_tower.position_TD)
    assert teacher.centre_N.abs().max() > 0
    assert not any(name.startswith("teacher.tower") for name in run.parameters())
    run.save()
    found = read(run.folder)
    assert found is not None
    assert any(name.startswith("teacher.tower.") for name in found[1])
    run.export("final")
    plain = stage.prepare_run(data, TINY.resolved(), tmp_path, QUIET)
    assert open_model(run.folder / "final").network.state_dict().keys() == plain.model.state_dict().keys()


@pytest.mark.parametrize(
    "settings", [{"method": "slip", "teacher_share": 0.5}, {"method": "masked"}, {"method": "lejepa"}]
)
def test_a_resumed_run_equals_an_unbroken_one(settings: dict[str, object], data: Dataset, tmp_path: Path) -> None:
    whole = prepare_run(data, tmp_path / "whole", **settings)
    for _ in range(9):
        whole.step()
    broken = prepare_run(data, tmp_path / "broken", **settings)
    for _ in range(7):
        broken.step()
    broken.save()
    for _ in range(2):
        broken.step()  # a kill loses these
    resumed = prepare_run(data, tmp_path / "broken", **settings)
    resumed.restore()
    assert resumed.position.step == 7
    for _ in range(2):
        resumed.step()
    one, two = whole.state(), resumed.state()
    assert one.keys() == two.keys()
    assert [name for name in one if not torch.equal(one[name], two[name])] == []


def test_a_skipped_step_leaves_nothing_behind(data: Dataset, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    run = prepare_run(data, tmp_path, method="slip", teacher_share=1.0)
    run.step()
    before = {name: t.clone() for name, t in run.state().items()}
    right = run.losses

    def broken(step: object) -> object:
        return {name: part._replace(value=part.value * math.nan) for name, part in right(step).items()}  # type: ignore[arg-type]  # as it came

    monkeypatch.setattr(run, "losses", broken)
    run.step()
    now = run.state()
    assert [n for n, t in before.items() if not torch.equal(now[n], t) and "num_batches" not in n] == []


def test_captions_learn_the_same_without_it(data: Dataset, tmp_path: Path) -> None:
    """The objective beside them changes neither their draws nor the first weights."""
    plain, more = stage.prepare_run(data, TINY.resolved(), tmp_path, QUIET), prepare_run(data, tmp_path, method="slip")
    for name, tensor in plain.model.state_dict().items():
        assert torch.equal(tensor, more.model.state_dict()[name])
    for step in range(3):
        assert (plain.sampler.draw(step) == more.sampler.draw(step)).all()


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"method": "simclr"}, "slip"),
        ({"batch_size": 1}, "at least 2"),
        ({"mask_ratio": 1.5}, "at most 1"),
        ({"teacher_ema_decay": 1.0}, "below 1"),
        ({"mask_ratio": math.nan}, "finite"),
        ({"weight": -1.0}, "at least 0"),
        ({"metod": "slip"}, "method"),
    ],
)
def test_a_wrong_setting_is_named(settings: dict[str, object], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        decode(TrainConfig, {"self_supervision": settings})
