"""Loaded weights lie in aligned memory, wherever they come from: a loaded model computes the bits of the saved one."""

from __future__ import annotations

import re
import shutil
from collections.abc import Callable
from itertools import chain
from pathlib import Path

import pytest
import torch
from safetensors import safe_open
from safetensors.torch import load_file, save_file
from tests.support.tiny_hf import make_clip, make_idefics3, make_llava, make_qwen, make_siglip, make_siglip2
from tests.support.tiny_model import make_tiny_model, tiny_config
from torch import Tensor, nn
from transformers import AutoModel, AutoModelForImageTextToText

import clerestory
from clerestory.models import ClerestoryModel, find_text_tower, open_model, open_reference
from clerestory.models.adapters.hf_chat import ChatModel
from clerestory.models.adapters.hf_dual import DualEncoder
from clerestory.models.alignment import ALIGNMENT, align_parameters, aligned
from clerestory.models.starter import starter_folder
from clerestory.models.text_tower import TextTower
from clerestory.models.text_tower_files import WEIGHTS
from clerestory.models.upcycle import upcycle_model
from clerestory.stages.train import checkpoint


def misalign(file: Path) -> Path:
    """Write a safetensors file again with a header of such a length that its data begin 8 bytes past alignment."""
    with safe_open(file, framework="pt") as opened:
        metadata = opened.metadata() or {"format": "pt"}
    tensors = load_file(file)
    for length in range(8 * ALIGNMENT):
        save_file(tensors, file, metadata | {"filler": "x" * length})
        begin = 8 + int.from_bytes(file.read_bytes()[:8], "little")
        if begin % ALIGNMENT == 8:
            return file
    raise AssertionError("no length of the header misaligns the data")


def misaligned_folder(folder: Path) -> Path:
    for file in folder.glob("*.safetensors"):
        misalign(file)
    return folder


def addresses(network: nn.Module) -> dict[str, int]:
    """Where parameters and buffers lie, relative to alignment."""
    named = chain(network.named_parameters(), network.named_buffers())
    return {name: tensor.data_ptr() % ALIGNMENT for name, tensor in named}


def assert_aligned(network: nn.Module) -> None:
    found = addresses(network)
    assert found
    assert not any(found.values()), {name: place for name, place in found.items() if place}


def shifted(tensor: Tensor, by: int = 8) -> Tensor:
    """The same values and strides at an address that many bytes past alignment."""
    size = tensor.element_size()
    extent = sum((n - 1) * step for n, step in zip(tensor.shape, tensor.stride(), strict=True)) + 1
    memory = torch.zeros(extent + by // size, dtype=tensor.dtype)
    out = memory.as_strided(tensor.shape, tensor.stride(), by // size)
    out.copy_(tensor)
    assert out.data_ptr() % ALIGNMENT == by
    return out


# What the remedy rests on.


@pytest.mark.parametrize(
    "dtype", [torch.float32, torch.float16, torch.bfloat16, torch.float64, torch.int64, torch.bool]
)
def test_memory_that_torch_allocates_is_aligned(dtype: torch.dtype) -> None:
    for count in (*range(1, 130), 1000, 4097, 100_003, 1_000_001):
        made = [
            torch.empty(count, dtype=dtype),
            torch.zeros(count, dtype=dtype),
            torch.ones(count, dtype=dtype).clone(),
        ]
        assert all(tensor.data_ptr() % ALIGNMENT == 0 for tensor in made)


def test_a_fresh_model_is_aligned() -> None:
    assert_aligned(ClerestoryModel(tiny_config(experts=4, decoder_experts=2)))


# The two functions.


def test_one_tensor() -> None:
    kept = torch.rand(4, 6)
    assert aligned(kept) is kept
    for tensor in (torch.rand(4, 6), torch.rand(6, 4).t(), torch.arange(5), torch.tensor(1.5)):
        moved = aligned(shifted(tensor))
        assert moved.data_ptr() % ALIGNMENT == 0
        assert torch.equal(moved, tensor)
        assert moved.dtype == tensor.dtype
        assert moved.stride() == tensor.stride()
    for other in (torch.empty(0), torch.empty(3, device="meta")):
        assert aligned(other) is other


class Odd(nn.Module):
    """A tied weight, overlapping views, one memory under two parameters, any strides and types, all misaligned."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.second = nn.Linear(6, 8), nn.Linear(6, 8)
        self.first.weight = self.second.weight = nn.Parameter(shifted(torch.rand(8, 6)))
        self.transposed = nn.Parameter(shifted(torch.rand(6, 8).t(), 24), requires_grad=False)
        self.short = nn.Parameter(shifted(torch.rand(5).half(), 2))
        whole = shifted(torch.rand(64), 4)
        self.whole = nn.Parameter(whole)
        self.register_buffer("alias", whole)
        self.register_buffer("part", whole[16:32].view(4, 4))
        self.register_buffer("bits", whole.view(torch.int32)[32:40])
        both = shifted(torch.rand(32), 16)
        self.left, self.right = nn.Parameter(both[:10]), nn.Parameter(both[10:])
        self.register_buffer("spread", shifted(torch.tensor([3.0]), 12).expand(4))
        self.register_buffer("count", shifted(torch.tensor(7)))
        self.register_buffer("none", torch.empty(0))
        self.register_buffer("nowhere", torch.empty(2, device="meta"))


def test_ties_views_strides_types_and_gradients_are_kept() -> None:
    network = Odd()
    tensors = dict(chain(network.named_parameters(), network.named_buffers()))
    held = {n: (t.clone(), t.dtype, t.shape, t.stride(), t.requires_grad) for n, t in tensors.items()}
    home = network.first.bias.data_ptr()
    assert align_parameters(network) is network
    assert_aligned(network)
    after = dict(chain(network.named_parameters(), network.named_buffers()))
    assert after.keys() == tensors.keys()
    for name, tensor in after.items():
        values, *facts = held[name]
        assert tensor is tensors[name], name
        assert [tensor.dtype, tensor.shape, tensor.stride(), tensor.requires_grad] == facts, name
        assert tensor.is_meta or torch.equal(tensor, values), name
    assert network.first.bias.data_ptr() == home, "what is aligned stays"
    assert network.first.weight is network.second.weight
    with torch.no_grad():
        network.whole.fill_(2.0)
    assert network.alias.data_ptr() == network.whole.data_ptr()
    assert bool((network.alias == 2).all())
    assert bool((network.part == 2).all())
    assert bool((network.bits.view(torch.float32) == 2).all())
    places = addresses(network), network.whole.data_ptr()
    assert (addresses(align_parameters(network)), network.whole.data_ptr()) == places, "a second time changes nothing"
    (network.first(torch.rand(2, 6)).sum() + network.short.float().sum()).backward()
    assert network.second.weight.grad is not None


def test_types_of_different_size_over_one_memory() -> None:
    network, whole = nn.Module(), torch.zeros(64)
    network.register_buffer("narrow", whole[3:20])  # begins 4 bytes before the wider one, which begins at 16
    network.register_buffer("wide", whole.view(torch.float64)[2:10])
    align_parameters(network)
    network.narrow[:3] = torch.tensor([0.0, 1.0, 2.0])
    assert network.wide.view(torch.float32)[:2].tolist() == [1.0, 2.0]


# Every way in which weights are read.


def test_our_own_model(tmp_path: Path) -> None:
    folder = misaligned_folder(make_tiny_model(tmp_path / "model"))
    for network in (
        open_model(folder).network,
        open_reference(str(folder)).network,  # type: ignore[union-attr]  # one of ours
        ClerestoryModel.from_pretrained(folder),
        AutoModel.from_pretrained(folder),
    ):
        assert isinstance(network, ClerestoryModel)
        assert_aligned(network)
    network, told = ClerestoryModel.from_pretrained(folder, output_loading_info=True)
    assert_aligned(network)
    assert not told["missing_keys"]


@torch.no_grad()
@pytest.mark.parametrize("experts", [0, 4])
def test_our_own_model_computes_the_bits_of_the_saved_one(experts: int, tmp_path: Path) -> None:
    torch.manual_seed(0)
    saved = ClerestoryModel(tiny_config()).eval()
    for p in saved.parameters():
        p.add_(torch.randn_like(p) * 0.05)
    if experts:
        saved = upcycle_model(saved, experts, 2, split=False, decoder_experts=experts)
    saved.save_pretrained(tmp_path)
    loaded = ClerestoryModel.from_pretrained(misaligned_folder(tmp_path)).eval()
    pixels, texts, ids = torch.rand(5, 3, 32, 32), torch.rand(5, 384), torch.randint(4, 8, (5, 6))
    before, after = saved(pixels, texts, ids), loaded(pixels, texts, ids)
    for name in ("image_embeds", "text_embeds", "image_tokens", "caption_logits"):
        assert torch.equal(before[name], after[name]), name


def test_the_starter(tmp_path: Path) -> None:
    if not (starter_folder() / "config.json").is_file():
        pytest.skip("the starter is not here")
    assert_aligned(open_reference("starter").network)  # type: ignore[union-attr]  # one of ours
    copy = misaligned_folder(Path(shutil.copytree(starter_folder(), tmp_path / "starter")))
    assert_aligned(open_model(copy).network)


def test_the_text_tower(tmp_path: Path) -> None:
    original = find_text_tower()
    copy = Path(shutil.copytree(original, tmp_path / "tower"))
    misalign(copy / WEIGHTS)
    towers = [TextTower(original), TextTower(copy)]
    for tower in towers:
        assert_aligned(tower.network)
    texts = ["a cat", "a red sports car on the road"]
    rows, again = (torch.from_numpy(tower.embed(texts)) for tower in towers)
    assert torch.equal(rows, again)


@torch.no_grad()
@pytest.mark.parametrize("make", [make_clip, make_siglip, make_siglip2])
def test_a_dual_encoder(make: Callable[[Path], Path], tmp_path: Path) -> None:
    folder = make(tmp_path / "model")
    model = open_reference(str(misaligned_folder(folder)))
    assert isinstance(model, DualEncoder)
    assert_aligned(model.network)
    # The saved one: the same weights, each in memory of its own.
    saved = type(model.network)(model.network.config).eval()
    saved.load_state_dict(model.network.state_dict())
    ids = torch.randint(4, 20, (3, 12))
    assert torch.equal(saved.text_model(ids).last_hidden_state, model.network.text_model(ids).last_hidden_state)


@torch.no_grad()
@pytest.mark.parametrize("tied", [False, True])
@pytest.mark.parametrize("make", [make_llava, make_idefics3, make_qwen])
def test_a_chat_model(make: Callable[[Path], Path], tied: bool, tmp_path: Path) -> None:
    folder = make(tmp_path / "model")
    if tied:
        network = AutoModelForImageTextToText.from_pretrained(folder)
        network.config.tie_word_embeddings = network.config.get_text_config().tie_word_embeddings = True
        network.tie_weights()
        network.save_pretrained(folder)
    model = open_reference(str(misaligned_folder(folder)))
    assert isinstance(model, ChatModel)
    assert_aligned(model.network)
    words, answer = model.network.get_input_embeddings().weight, model.network.get_output_embeddings().weight
    assert (words is answer) is tied
    assert (words.data_ptr() == answer.data_ptr()) is tied
    saved = type(model.network)(model.network.config).eval()
    saved.load_state_dict(model.network.state_dict())
    ids = torch.randint(10, 20, (2, 9))
    assert torch.equal(saved(input_ids=ids).logits, model.network(input_ids=ids).logits)


def test_a_checkpoint_of_a_training(tmp_path: Path) -> None:
    state = {"model/a": torch.rand(16, 16), "average/b": torch.rand(5), "optimizer/step": torch.tensor(3)}
    for length in range(1, 16):  # of a name, and so of the header
        checkpoint.write(tmp_path, checkpoint.Position(step=2), state | {"x" * length * 4: torch.rand(3)})
        found = checkpoint.read(tmp_path)
        assert found is not None
        assert found[0].step == 2
        assert all(tensor.data_ptr() % ALIGNMENT == 0 for tensor in found[1].values())
        assert all(torch.equal(found[1][name], tensor) for name, tensor in state.items())


# Every file with a call that reads weights; it aligns them in the same file.

READS = re.compile(r"\b(?:load_file|safe_open|torch\.load)\(|assign=True|\bloader\.from_pretrained\(")


def test_every_file_that_reads_weights_aligns_them() -> None:
    files = {file: file.read_text(encoding="utf-8") for file in Path(clerestory.__file__).parent.rglob("*.py")}
    # An export to ONNX equals its model to within rounding only, so it need not be aligned.
    readers = {file.name: text for file, text in files.items() if READS.search(text) and file.parent.name != "onnx"}
    assert "loading.py" in readers, "the pattern finds it"
    assert all(re.search(r"\balign(?:ed|_parameters)\(", text) for text in readers.values())
