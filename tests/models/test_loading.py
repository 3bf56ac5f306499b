"""The one loader: its guarantees, for Clerestory's own models, other people's models and the text tower."""

from __future__ import annotations

import re
import shutil
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file
from tests.support.tiny_hf import make_clip, make_llava
from tests.support.tiny_model import make_tiny_model
from torch import Tensor

import clerestory
from clerestory.core.errors import IntegrityError
from clerestory.models import open_reference
from clerestory.models.text_tower import TextTower, find_text_tower

SOURCES = Path(clerestory.__file__).parent


def copy_text_tower(folder: Path) -> Path:
    return Path(shutil.copytree(find_text_tower(), folder))


def open_any(folder: Path) -> object:
    return TextTower(folder) if folder.name == "tower" else open_reference(str(folder))


def with_missing(weights: dict[str, Tensor]) -> None:
    del weights[next(name for name in weights if name.endswith("weight") and not name.startswith("pooler."))]


def with_unexpected(weights: dict[str, Tensor]) -> None:
    weights["unknown.weight"] = torch.zeros(2)


def with_another_shape(weights: dict[str, Tensor]) -> None:
    name = next(name for name, tensor in weights.items() if tensor.ndim == 2 and name.endswith("weight"))
    weights[name] = torch.zeros(3, 5)


def with_nan(weights: dict[str, Tensor]) -> None:
    name = next(n for n, tensor in weights.items() if tensor.is_floating_point() and not n.startswith("pooler."))
    weights[name] = weights[name].clone().index_fill_(0, torch.tensor([0]), float("nan"))


FAULTS = [
    (with_missing, "lack 1 tensor"),
    (with_unexpected, "have unexpected 1 tensor: unknown.weight"),
    (with_another_shape, "cannot be read"),
    (with_nan, "are not finite"),
]
MAKERS = {"own": make_tiny_model, "clip": make_clip, "llava": make_llava, "tower": copy_text_tower}


@pytest.mark.parametrize("name", MAKERS)
def test_weights_that_do_not_fit_are_refused_and_nothing_is_printed(
    name: str, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    folder = MAKERS[name](tmp_path / name)
    capfd.readouterr()
    open_any(folder)
    weights = load_file(folder / "model.safetensors")
    for fault, message in FAULTS:
        broken: dict[str, Tensor] = dict(weights)
        fault(broken)
        save_file(broken, folder / "model.safetensors", metadata={"format": "pt"})
        with pytest.raises(IntegrityError, match=message) as raised:
            open_any(folder)
        assert name in str(raised.value)
    assert capfd.readouterr() == ("", "")


def test_code_of_a_model_never_runs_and_nobody_is_prompted(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("builtins.input", lambda *_: pytest.fail("a prompt"))
    folder, ran = make_tiny_model(tmp_path / "own"), tmp_path / "ran"
    (folder / "evil.py").write_text(f"open({str(ran)!r}, 'w')", encoding="utf-8")
    for file in ("config.json", "processor_config.json", "tokenizer_config.json"):
        path = folder / file
        if path.is_file():
            text = path.read_text(encoding="utf-8").rstrip()
            names = '"AutoModel": "evil.M", "AutoProcessor": "evil.P", "AutoTokenizer": ["evil.T", null]'
            path.write_text(f'{text[:-1]}, "auto_map": {{{names}}}}}', encoding="utf-8")
    open_reference(str(folder))
    assert not ran.exists()


def calls(pattern: str) -> set[str]:
    found = (file for file in SOURCES.rglob("*.py") if re.search(pattern, file.read_text(encoding="utf-8")))
    return {file.relative_to(SOURCES).as_posix() for file in found}


def test_every_from_pretrained_is_called_in_one_module() -> None:
    assert calls(r"(?<!super\(\))\.from_pretrained\(") == {"models/loading.py"}
    assert calls(r"super\(\)\.from_pretrained\(") == {"models/model.py"}, "which aligns what Hugging Face loads"
