"""LoRA: the adapter, the merged model, and models that answer in words."""

from __future__ import annotations

import builtins
import json
import os
import socket
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from peft import PeftModel
from safetensors.torch import load_file
from tests.support.shapes import counted_shapes
from tests.support.tiny_hf import make_idefics3, make_llava, make_qwen

from clerestory.core.errors import CapabilityError, ConfigError, MissingExtra
from clerestory.core.sample import Dataset
from clerestory.models.resolve import open_folder, open_reference
from clerestory.stages.train.losses import IGNORE
from clerestory.stages.train.tune import TuneConfig, tune, write_target
from clerestory.stages.train.tune.caption_pairs import train_pairs
from clerestory.stages.train.tune.chat import TrainableChatModel
from clerestory.stages.train.tune.lora import LoraAdapter, linear_layers
from clerestory.stages.train.tune.weights import train_only
from clerestory.store import Store

# peft still asks transformers for a property by its former name.
pytestmark = pytest.mark.filterwarnings("ignore:.*is_gradient_checkpointing:FutureWarning")

LORA: dict[str, Any] = {
    "method": "lora",
    "lock": "none",
    "batch_size": 32,
    "threads": 1,
    "num_validations": 1,
    "steps": 20,
    "learning_rate": 1e-2,
    "alphas": (1.0,),
}
CHATS = [make_llava, make_qwen, make_idefics3]


@pytest.fixture(scope="module")
def few() -> Dataset:
    """A handful of pictures, for models that take their time."""
    data = counted_shapes("few", train_images=2, template="the {colour} {shape}")
    return data.filter(lambda s: "one" in s.concept)


def rows_of(model: Any, data: Dataset) -> np.ndarray[Any, Any]:
    pairs = train_pairs(data, 24, 0)
    return np.concatenate(
        [model.embed_images([pairs.image(row) for row in range(24)]), model.embed_texts(pairs.captions)]
    )


@pytest.mark.parametrize("kind", ["clip", "siglip"])
def test_merged_and_adapter_give_the_same(
    kind: str, new: Dataset, retained: Dataset, store: Store, tmp_path: Path, request: pytest.FixtureRequest
) -> None:
    folder = request.getfixturevalue(kind)
    result = tune(open_folder(folder), new, retained, TuneConfig(**LORA), store)
    write_target(tmp_path / "out", store, result.model, result.adapter)
    merged: Any = open_reference(f"hf:{tmp_path / 'out'}")
    assert merged.digest == result.model
    with_adapter: Any = open_folder(folder)
    PeftModel.from_pretrained(with_adapter.network, tmp_path / "out" / "adapter").eval()
    ours, theirs, was = (rows_of(model, new) for model in (merged, with_adapter, open_folder(folder)))
    assert np.abs(ours - theirs).max() <= 1e-5
    assert np.abs(ours - was).max() > 1e-3  # a hundred times what the two may differ by
    facts = result.evidence.facts
    assert 0 < facts["trained_parameters"] < facts["parameters"]


def test_every_matrix_learns_and_nothing_else_does(clip: Path, new: Dataset, retained: Dataset, store: Store) -> None:
    result = tune(open_folder(clip), new, retained, TuneConfig(**LORA | {"lock": "image"}), store)
    before, after = (load_file(f / "model.safetensors") for f in (clip, store.model_folder(result.model)))
    changed = {name for name in before if not torch.equal(before[name], after[name])}
    wanted = {n for n in before if n.startswith("text") and n.endswith((".weight",)) and before[n].ndim == 2}
    assert changed == {n for n in wanted if "embedding" not in n}


def test_a_blend_rescales_the_adapter(
    clip: Path, new: Dataset, retained: Dataset, store: Store, tmp_path: Path
) -> None:
    settings = TuneConfig(
        **LORA | {"on_forgetting": "interpolate", "min_retention": 0.97, "alphas": (0.25, 0.5), "steps": 40}
    )
    result = tune(open_folder(clip), new, retained, settings, store)
    assert result.evidence.facts["alpha"] in (0, 0.25, 0.5)
    write_target(tmp_path / "out", store, result.model, result.adapter)
    with_adapter: Any = open_folder(clip)
    PeftModel.from_pretrained(with_adapter.network, tmp_path / "out" / "adapter").eval()
    merged = open_folder(tmp_path / "out")
    assert np.abs(rows_of(merged, new) - rows_of(with_adapter, new)).max() <= 1e-5


def test_the_adapter_alone(clip: Path, new: Dataset, retained: Dataset, store: Store, tmp_path: Path) -> None:
    settings = TuneConfig(**LORA | {"merge": False, "steps": 4})
    result = tune(open_folder(clip), new, retained, settings, store)
    assert result.model == ""
    assert tune(open_folder(clip), new, retained, settings, store).cached
    write_target(tmp_path / "out", store, result.model, result.adapter)
    assert sorted(p.name for p in (tmp_path / "out").iterdir()) == ["adapter_config.json", "adapter_model.safetensors"]
    with pytest.raises(ConfigError, match="on_forgetting is interpolate"):
        TuneConfig(on_forgetting="interpolate", merge=False)


@pytest.mark.parametrize("make", CHATS)
def test_only_the_answer_is_learnt(make: Any, tmp_path: Path, few: Dataset) -> None:
    model: Any = open_folder(make(tmp_path / "chat"))
    config = TuneConfig(question="what colour is this ?", lock="none").resolved("chat")
    trainable = TrainableChatModel(model, config)
    pairs = train_pairs(few, 0, 0)
    image, text = pairs.image(0), pairs.captions[pairs.captions_N[0]]
    inputs = trainable.training_inputs(image, text)
    labels = inputs["labels"][0]
    answer = model.tokenizer.decode(labels[labels != IGNORE], skip_special_tokens=False)
    assert answer.replace(" ", "") == text.replace(" ", "") + "<eos>"
    prompt = model.inputs(config.question, [image])[1]["input_ids"]
    assert torch.equal(inputs["input_ids"][:, : prompt.shape[1]], prompt)
    assert bool((labels[: prompt.shape[1]] == IGNORE).all())
    with torch.no_grad():
        logits = model.network(**{k: v for k, v in inputs.items() if k != "labels"}).logits[0].float()
    asked = prompt.shape[1]
    wanted = torch.nn.functional.cross_entropy(logits[asked - 1 : -1], inputs["input_ids"][0, asked:])
    trainable.prepare(pairs)
    train_only(trainable.network, trainable.trained)
    assert trainable.backward(np.array([0]), np.array([0])) == pytest.approx(float(wanted), rel=1e-4)


@pytest.mark.parametrize("make", CHATS)
def test_a_model_that_answers_learns_captions(make: Any, tmp_path: Path, few: Dataset, store: Store) -> None:
    folder = make(tmp_path / "chat")
    settings = TuneConfig(
        **LORA | {"lock": "image", "batch_size": 8, "steps": 12, "retention_samples": 4, "val_samples": 4},
        question="what is this ?",
    )
    result = tune(open_folder(folder), few, few, settings, store)
    log = store.blobs.get(result.evidence.artifacts["log"]).decode().splitlines()
    losses = [json.loads(line)["loss"] for line in log]
    assert losses[-1] < 0.7 * losses[0]
    write_target(tmp_path / "out", store, result.model, result.adapter)
    merged: Any = open_reference(f"hf:{tmp_path / 'out'}")
    with_adapter: Any = open_folder(folder)
    PeftModel.from_pretrained(with_adapter.network, tmp_path / "out" / "adapter").eval()
    pairs = train_pairs(few, 0, 0)
    image = pairs.image(0)
    likely = [m.log_likelihoods(image, "what is this ?", pairs.captions) for m in (merged, with_adapter)]
    torch.testing.assert_close(likely[0], likely[1], atol=1e-4, rtol=0)
    was = open_folder(folder).log_likelihoods(image, "what is this ?", pairs.captions)  # type: ignore[attr-defined]  # a chat model
    assert float(likely[0].mean()) > float(was.mean())
    before, after = (load_file(f / "model.safetensors") for f in (folder, tmp_path / "out"))
    changed = {name for name in before if not torch.equal(before[name], after[name])}
    assert changed
    assert not [n for n in changed if "visual" in n or "vision" in n or "lm_head" in n]


def test_locking_the_words_trains_what_sees(tmp_path: Path) -> None:
    model: Any = open_folder(make_llava(tmp_path / "chat"))
    trained = TrainableChatModel(model, TuneConfig(lock="text").resolved("chat")).trained
    assert trained
    assert all("vision" in n or "projector" in n for n in trained)


def test_without_peft_one_sentence_says_what_to_install(
    clip: Path, new: Dataset, retained: Dataset, store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    real = builtins.__import__

    def refuse(name: str, *args: Any, **kwargs: Any) -> Any:
        if name == "peft":
            raise ImportError(name)
        return real(name, *args, **kwargs)

    monkeypatch.delitem(sys.modules, "peft")
    monkeypatch.setattr(builtins, "__import__", refuse)
    with pytest.raises(MissingExtra, match="LoRA needs the package peft") as told:
        tune(open_folder(clip), new, retained, TuneConfig(**LORA), store)
    assert "pip install" in told.value.fix
    assert not list(store.runs.iterdir())


def test_an_endpoint_is_no_trainable(new: Dataset, store: Store) -> None:
    class Far:
        digest = "0" * 64

        def facts(self) -> dict[str, str]:
            return {}

    with pytest.raises(CapabilityError, match="weights are not on this computer"):
        tune(Far(), new, new, TuneConfig(), store)


SAVE_ADAPTER = """
import sys
from pathlib import Path
from clerestory.models.resolve import open_folder
from clerestory.stages.train.tune.lora import LoraAdapter, linear_layers
network = open_folder(Path(sys.argv[1])).network.requires_grad_(True)
layers = linear_layers(network, [name for name, _ in network.named_parameters()])
LoraAdapter(network, layers, 4, 8.0, 0, "hf:someone/model").save(Path(sys.argv[2]))
"""


def test_an_adapter_has_the_same_files_in_every_process_and_saving_it_prints_nothing(
    clip: Path, tmp_path: Path
) -> None:
    command = [sys.executable, "-W", "always", "-c", SAVE_ADAPTER, str(clip), str(tmp_path / "other")]
    environment = os.environ | {"PYTHONHASHSEED": "1"}  # this process has another one
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=True, timeout=300)
    assert "peft" not in done.stderr
    network = open_folder(clip).network.requires_grad_(True)  # type: ignore[union-attr]  # a dual encoder
    layers = linear_layers(network, [name for name, _ in network.named_parameters()])
    LoraAdapter(network, layers, 4, 8.0, 0, "hf:someone/model").save(tmp_path / "own")
    contents = [
        {file.name: file.read_bytes() for file in sorted((tmp_path / folder).iterdir())} for folder in ("own", "other")
    ]
    assert contents[0] == contents[1]
    assert contents[0].keys() == {"adapter_config.json", "adapter_model.safetensors"}
    names = json.loads(contents[0]["adapter_config.json"])["target_modules"]
    assert names == sorted(names)
    assert len(names) > 4


def test_peft_does_not_ask_the_hub_and_does_not_warn(
    clip: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, recwarn: pytest.WarningsRecorder
) -> None:
    monkeypatch.setattr(socket.socket, "connect", lambda *_: pytest.fail("a connection"))
    network = open_folder(clip).network.requires_grad_(True)  # type: ignore[union-attr]  # a dual encoder
    layers = linear_layers(network, [name for name, _ in network.named_parameters()])
    adapter = LoraAdapter(network, layers, 4, 8.0, 0, "hf:someone/model")
    adapter.save(tmp_path / "adapter")
    adapter.merge()
    assert not recwarn.list
