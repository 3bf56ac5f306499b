"""The one loader: its guarantees, for Clerestory's own models, other people's models and the text tower."""

from __future__ import annotations

import ast
import io
import json
import pickle
import shutil
import struct
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file
from tests.support.tiny_hf import (
    make_blip_captioner,
    make_blip_dual,
    make_clip,
    make_llava,
    make_siglip,
    make_text_tower,
)
from tests.support.tiny_model import make_tiny_model
from torch import Tensor

import clerestory
from clerestory.core.errors import CapabilityError, ClerestoryError, IntegrityError
from clerestory.models import open_reference
from clerestory.models.folder_check import display_name
from clerestory.models.text_tower import TextTower

SOURCES = Path(clerestory.__file__).parent
MAKERS: dict[str, Callable[[Path], object]] = {
    "own": make_tiny_model,
    "clip": make_clip,
    "siglip": make_siglip,
    "blip_dual": make_blip_dual,
    "blip_captioner": make_blip_captioner,
    "llava": make_llava,
    "tower": make_text_tower,
}
# Phrases of transformers that help nobody at the command line.
RAW_TEXTS = ("ignore_mismatched_sizes", "local directory", "huggingface.co", "trust_remote_code", "report above", "\n")


@pytest.fixture(scope="module")
def originals(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """One intact folder of each kind."""
    root = tmp_path_factory.mktemp("originals")
    for name, make in MAKERS.items():
        make(root / name)
    return root


@pytest.fixture(params=MAKERS)
def folder(request: pytest.FixtureRequest, originals: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(originals / request.param, tmp_path / request.param))


@pytest.fixture
def answers_yes(monkeypatch: pytest.MonkeyPatch) -> Iterator[io.StringIO]:
    """A standard input that would answer "y" to every prompt; it must remain unread."""
    answers = io.StringIO("y\n" * 20)
    monkeypatch.setattr(sys, "stdin", answers)
    yield answers
    assert answers.tell() == 0, "a prompt was answered"


def open_any(folder: Path) -> object:
    return TextTower(folder) if folder.name == "tower" else open_reference(str(folder))


def refusal(folder: Path, kind: type[ClerestoryError] = IntegrityError) -> str:
    """The message with which a folder is refused: one sentence, of the expected kind."""
    with pytest.raises(kind) as raised:
        open_any(folder)
    assert not any(raw in str(raised.value) for raw in RAW_TEXTS), str(raised.value)
    assert raised.value.fix, "a remedy"
    return str(raised.value)


def needed(weights: dict[str, Tensor]) -> str:
    """The name of a matrix that the network needs."""
    return next(n for n, t in weights.items() if t.ndim == 2 and n.endswith("weight") and not n.startswith("pooler."))


def without_one(weights: dict[str, Tensor]) -> str:
    del weights[name := needed(weights)]
    return f"lack 1 tensor: {name}"


def with_unexpected(weights: dict[str, Tensor]) -> str:
    weights["unknown.weight"] = torch.zeros(2)
    return "have unexpected 1 tensor: unknown.weight"


def with_other_names(weights: dict[str, Tensor]) -> str:
    renamed = {f"unknown.{name}": tensor for name, tensor in weights.items()}
    weights.clear()
    weights.update(renamed)
    return "lack"


def with_another_shape(weights: dict[str, Tensor]) -> str:
    weights[name := needed(weights)] = torch.zeros(3, 5)
    return f"do not fit the configuration in 1 tensor: {name} is 3×5, not "


def with_value(value: float) -> Callable[[dict[str, Tensor]], str]:
    def change(weights: dict[str, Tensor]) -> str:
        name = needed(weights)
        weights[name] = weights[name].clone()
        weights[name][-1, -1] = value
        return f"not finite in 1 tensor: {name}"

    return change


@pytest.mark.parametrize(
    "fault",
    [
        pytest.param(without_one, id="missing"),
        pytest.param(with_other_names, id="other-names"),
        pytest.param(with_unexpected, id="unexpected"),
        pytest.param(with_another_shape, id="shape"),
        pytest.param(with_value(float("nan")), id="nan"),
        pytest.param(with_value(float("-inf")), id="inf"),
    ],
)
def test_weights_that_do_not_fit_are_refused_with_their_names_and_nothing_is_printed(
    folder: Path, fault: Callable[[dict[str, Tensor]], str], capfd: pytest.CaptureFixture[str]
) -> None:
    weights = load_file(folder / "model.safetensors")
    expected = fault(weights)
    save_file(weights, folder / "model.safetensors", metadata={"format": "pt"})
    capfd.readouterr()
    message = refusal(folder)
    # The name in the network may have another prefix than the name in the file.
    start, _, name = expected.partition(": ")
    assert start in message
    assert ".".join(name.split(".")[-2:]) in message
    assert folder.name in message
    assert capfd.readouterr() == ("", "")


def test_large_finite_weights_and_old_constant_tensors_are_accepted(originals: Path, tmp_path: Path) -> None:
    folder = Path(shutil.copytree(originals / "clip", tmp_path / "clip"))
    weights = load_file(folder / "model.safetensors")
    for tower in ("text_model", "vision_model"):  # saved by earlier versions of transformers
        weights[f"{tower}.embeddings.position_ids"] = torch.arange(12)[None]
    name = needed(weights)
    weights[name] = torch.full_like(weights[name], 3e38)  # the sum of these is not finite, each of them is
    save_file(weights, folder / "model.safetensors", metadata={"format": "pt"})
    network: Any = open_reference(str(folder))
    assert network.network.state_dict()[name].max() == torch.tensor(3e38)


class Payload:
    """A pickle that creates a file when it is read."""

    def __init__(self, file: Path) -> None:
        self.file = file

    def __reduce__(self) -> Any:
        return Path.touch, (self.file,)


def lying_header(data: bytes, change: Callable[[dict[str, Any]], None]) -> bytes:
    length = struct.unpack("<Q", data[:8])[0]
    header = json.loads(data[8 : 8 + length])
    change(next(entry for name, entry in header.items() if name != "__metadata__"))
    text = json.dumps(header).encode()
    return struct.pack("<Q", len(text)) + text + data[8 + length :]


BROKEN_FILES: dict[str, Callable[[bytes], bytes]] = {
    "empty": lambda data: b"",
    "truncated": lambda data: data[: len(data) * 2 // 3],
    "longer": lambda data: data + bytes(64),
    "huge-header": lambda data: struct.pack("<Q", 2**63) + data[8:],
    "header-past-end": lambda data: struct.pack("<Q", len(data)) + data[8:],
    "header-not-json": lambda data: data[:8] + b"\xff" * (len(data) - 8),
    "offset-past-end": lambda data: lying_header(data, lambda entry: entry.update(data_offsets=[0, 2**40])),
    "offset-reversed": lambda data: lying_header(data, lambda entry: entry.update(data_offsets=[64, 0])),
    "shape-too-large": lambda data: lying_header(data, lambda entry: entry.update(shape=[2**40, 2**40])),
    "unknown-dtype": lambda data: lying_header(data, lambda entry: entry.update(dtype="F999")),
}


@pytest.mark.parametrize("change", BROKEN_FILES.values(), ids=BROKEN_FILES)
def test_a_lying_or_damaged_weights_file_is_refused(
    folder: Path, change: Callable[[bytes], bytes], capfd: pytest.CaptureFixture[str]
) -> None:
    file = folder / "model.safetensors"
    file.write_bytes(change(file.read_bytes()))
    capfd.readouterr()
    assert f"the weights of {folder.name} cannot be read" in refusal(folder)
    assert capfd.readouterr() == ("", "")


def pickle_instead(folder: Path, payload: bytes) -> None:
    (folder / "model.safetensors").unlink()
    (folder / "pytorch_model.bin").write_bytes(payload)


def pickle_with_the_name_of_safetensors(folder: Path, payload: bytes) -> None:
    (folder / "model.safetensors").write_bytes(payload)


def index_of_pickles(folder: Path, payload: bytes) -> None:
    pickle_instead(folder, payload)
    index = {"metadata": {}, "weight_map": {"a.weight": "pytorch_model.bin"}}
    (folder / "model.safetensors.index.json").write_text(json.dumps(index), encoding="utf-8")


def explicit_name_of_a_pickle(folder: Path, payload: bytes) -> None:
    (folder / "weights.bin").write_bytes(payload)
    edit(folder / "config.json", transformers_weights="weights.bin")


def edit(file: Path, **settings: Any) -> None:
    old = json.loads(file.read_text(encoding="utf-8")) if file.is_file() else {}
    file.write_text(json.dumps(old | settings), encoding="utf-8")


@pytest.mark.parametrize(
    "attack",
    [pickle_instead, pickle_with_the_name_of_safetensors, index_of_pickles, explicit_name_of_a_pickle],
)
def test_a_pickle_is_never_read(
    folder: Path, attack: Callable[[Path, bytes], None], answers_yes: io.StringIO, tmp_path: Path
) -> None:
    attack(folder, pickle.dumps({"a.weight": Payload(tmp_path / "ran")}))
    refusal(folder, ClerestoryError)
    assert not (tmp_path / "ran").exists()


CODE_FILES = {
    "config.json": {"AutoConfig": "evil.C", "AutoModel": "evil.M", "AutoModelForImageTextToText": "evil.M"},
    "tokenizer_config.json": {"AutoTokenizer": ["evil.T", "evil.T"]},
    "processor_config.json": {"AutoProcessor": "evil.P", "AutoImageProcessor": "someone/else--evil.P"},
    "preprocessor_config.json": {"AutoImageProcessor": "evil.P"},
    "video_preprocessor_config.json": {"AutoVideoProcessor": "evil.P"},
    "generation_config.json": {"GenerationConfig": "evil.G"},
}


@pytest.mark.parametrize("file", CODE_FILES)
@pytest.mark.parametrize("nested", [False, True], ids=["top", "nested"])
def test_code_that_comes_with_a_model_is_refused_and_nobody_is_prompted(
    folder: Path, file: str, nested: bool, answers_yes: io.StringIO, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    (folder / "evil.py").write_text(f"open({str(tmp_path / 'ran')!r}, 'w')", encoding="utf-8")
    edit(
        folder / file, **({"text_config": {"auto_map": CODE_FILES[file]}} if nested else {"auto_map": CODE_FILES[file]})
    )
    capfd.readouterr()
    message = refusal(folder, CapabilityError)
    assert f"{folder.name} needs custom code (auto_map in {file})" in message
    assert capfd.readouterr() == ("", "")
    assert not (tmp_path / "ran").exists()


def test_an_escaped_spelling_of_auto_map_is_found(folder: Path, answers_yes: io.StringIO) -> None:
    text = (folder / "config.json").read_text(encoding="utf-8").rstrip()
    (folder / "config.json").write_text(text[:-1] + ', "auto\\u005fmap": {"AutoModel": "evil.M"}}', encoding="utf-8")
    assert "needs custom code" in refusal(folder, CapabilityError)


@pytest.mark.parametrize("setting", ["attn_implementation", "_attn_implementation"])
def test_downloaded_kernels_are_refused(folder: Path, setting: str) -> None:
    edit(folder / "config.json", **{setting: "someone/kernel@main:evil"})
    assert setting in refusal(folder, CapabilityError)


def test_an_adapter_is_not_opened_as_its_base_model(folder: Path) -> None:
    edit(folder / "adapter_config.json", base_model_name_or_path="someone/else", peft_type="LORA")
    assert "adapter (LoRA)" in refusal(folder, CapabilityError)


@pytest.mark.parametrize(
    "text",
    ["", "{", "[]", "null", '"clip"', "\ufeff{}", "[" * 100_000, '{"a": ' * 50_000, '{"width": 1' + "0" * 5000 + "}"],
)
@pytest.mark.parametrize("file", ["config.json", "preprocessor_config.json"])
def test_settings_that_are_not_json_are_refused_with_the_name_of_the_file(
    originals: Path, tmp_path: Path, file: str, text: str
) -> None:
    folder = Path(shutil.copytree(originals / "own", tmp_path / "own"))
    (folder / file).write_text(text, encoding="utf-8")
    assert file in refusal(folder)


def test_other_json_files_beside_a_model_may_have_any_content(folder: Path) -> None:
    (folder / "training_log.json").write_text("not JSON", encoding="utf-8")
    open_any(folder)


WRONG_SETTINGS = [
    ("own", "image_size", "big"),
    ("own", "image_size", None),
    ("own", "width", -32),
    ("own", "width", 32.5),
    ("own", "layers", 10**9),
    ("own", "layers", True),
    ("own", "stem_channels", 4),
    ("own", "stem_channels", []),
    ("own", "stem_channels", ["4", "8", "16"]),
    ("own", "logit_scale", float("nan")),
    ("own", "logit_scale", [20]),
    ("own", "expert_kind", 3),
    ("own", "nested_dims", "all"),
    ("own", "text_tower_digest", 7),
    ("own", "vocab_size", 0),
    ("own", "dtype", "banana"),
    ("clip", "projection_dim", "wide"),
    ("clip", "vision_config", "small"),
    ("clip", "vision_config", {"image_size": "big"}),
    ("clip", "text_config", {"num_attention_heads": 5}),
    ("clip", "text_config", {"hidden_act": "no such function"}),
    ("clip", "model_type", 7),
    ("clip", "model_type", "nonesuch"),
    ("clip", "architectures", 3),
    ("clip", "text_config", {"num_hidden_layers": 10**6}),
    ("clip", "text_config", {"vocab_size": 2 * 10**9}),
    ("clip", "quantization_config", {"quant_method": "bitsandbytes", "load_in_4bit": True}),
    ("llava", "text_config", {"hidden_size": "wide"}),
    ("llava", "image_token_index", "many"),
    ("tower", "hidden_size", "wide"),
    ("tower", "num_attention_heads", 5),
]


@pytest.mark.parametrize(("name", "setting", "value"), WRONG_SETTINGS, ids=lambda value: str(value)[:20])
def test_a_setting_of_a_wrong_type_is_one_sentence(
    name: str, setting: str, value: object, originals: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    folder = Path(shutil.copytree(originals / name, tmp_path / name))
    config = json.loads((folder / "config.json").read_text(encoding="utf-8"))
    if isinstance(value, dict) and isinstance(config.get(setting), dict):
        value = config[setting] | value
    edit(folder / "config.json", **{setting: value})
    capfd.readouterr()
    message = refusal(folder, ClerestoryError)
    if name == "own" and setting not in ("dtype", "vocab_size"):
        assert setting in message
    assert capfd.readouterr() == ("", "")


@pytest.mark.parametrize("file", ["tokenizer.json", "preprocessor_config.json"])
def test_a_missing_or_damaged_file_is_named(originals: Path, tmp_path: Path, file: str) -> None:
    folder = Path(shutil.copytree(originals / "clip", tmp_path / "clip"))
    for other in ("tokenizer_config.json", "processor_config.json"):
        (folder / other).unlink(missing_ok=True)
    (folder / file).write_text('{"version": "1.0"', encoding="utf-8")
    refusal(folder)
    (folder / file).unlink()
    assert f"{file} is missing" in refusal(folder)


def test_a_tokenizer_of_another_model_is_refused(originals: Path, tmp_path: Path) -> None:
    folder = Path(shutil.copytree(originals / "own", tmp_path / "own"))
    shutil.copyfile(originals / "clip" / "tokenizer.json", folder / "tokenizer.json")
    assert "words, but the network" in refusal(folder)


def test_the_architecture_decides_where_several_have_one_type(originals: Path, tmp_path: Path) -> None:
    for name, kind in (("blip_dual", "BlipModel"), ("blip_captioner", "BlipForConditionalGeneration")):
        assert open_reference(str(originals / name)).facts()["architecture"] == kind
    folder = Path(shutil.copytree(originals / "clip", tmp_path / "clip"))
    edit(folder / "config.json", architectures=["CLIPForImageClassification"])
    assert "CLIPForImageClassification" in refusal(folder, CapabilityError)


def test_a_folder_of_the_hub_is_named_as_on_the_hub() -> None:
    assert display_name(Path("/c/hub/models--org--name/snapshots/0123abcd")) == "org/name"
    assert display_name(Path("/s/models") / ("a" * 64)) == "a" * 12
    assert display_name(Path("mine")) == "mine"


READERS = {"from_pretrained", "from_file", "safe_open", "load_file", "from_config", "snapshot_download"}
ALLOWED = {
    ("models/loading.py", "from_pretrained"),
    ("models/word_pieces.py", "from_file"),  # as loading, where torch is not installed
    ("models/onnx/encoder.py", "load_file"),  # arrays of numpy; every digest is verified before
    ("models/loading.py", "safe_open"),
    ("models/loading.py", "load"),  # one file, pinned by its digest and read with weights_only
    ("models/model.py", "from_pretrained"),  # of the superclass: aligns what transformers loads
    ("models/adapters/files.py", "snapshot_download"),
}


def test_files_of_a_model_are_read_in_the_loader_and_its_parts_without_torch() -> None:
    calls = set()
    for file in SOURCES.rglob("*.py"):
        for node in ast.walk(ast.parse(file.read_text(encoding="utf-8"))):
            if not isinstance(node, ast.Call):
                continue
            name = ast.unparse(node.func)
            last = name.rpartition(".")[2]
            if last in READERS or name in ("torch.load", "pickle.load", "pickle.loads", "torch.hub.load"):
                calls.add((file.relative_to(SOURCES).as_posix(), last))
            assert not any(k.arg == "trust_remote_code" and ast.unparse(k.value) != "False" for k in node.keywords)
            assert not any(k.arg == "weights_only" and ast.unparse(k.value) != "True" for k in node.keywords)
    assert calls - ALLOWED == set()
