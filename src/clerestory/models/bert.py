"""BERT, the network of the text tower: the encoder alone, for inference, without importing transformers.

Devlin et al., "BERT: Pre-training of Deep Bidirectional Transformers", NAACL 2019. It exists for speed: importing the
class of transformers takes longer than everything else that a search from the command line does. It runs the same
operations in the same order, so that its outputs are the same bits (a test compares them).

Shape suffixes: N texts, T word pieces, H heads, E width of a head, D width.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from torch import Tensor, nn
from torch.nn import functional as F

from clerestory.core.errors import CapabilityError, IntegrityError
from clerestory.models.folder_check import CONFIG, DOWNLOAD_AGAIN, check_folder, display_name
from clerestory.models.loading import load_weights
from clerestory.models.uninitialised import Embedding, LayerNorm, Linear

_UNUSED = ("pooler.", "embeddings.position_ids")
_REQUIRED = ("hidden_size", "num_hidden_layers", "num_attention_heads", "intermediate_size", "vocab_size")


class BertLayer(nn.Module):
    """One layer: self-attention, then an MLP, each with a residual and layer normalisation after it."""

    def __init__(self, config: dict[str, Any]) -> None:
        super().__init__()
        width, eps = config["hidden_size"], config["layer_norm_eps"]
        self.num_heads = config["num_attention_heads"]
        self.query, self.key, self.value = (Linear(width, width) for _ in range(3))
        self.attention_output = Linear(width, width)
        self.attention_norm = LayerNorm(width, eps)
        self.intermediate = Linear(width, config["intermediate_size"])
        self.output = Linear(config["intermediate_size"], width)
        self.output_norm = LayerNorm(width, eps)

    def forward(self, states_NTD: Tensor, mask_N11T: Tensor | None) -> Tensor:
        """States ``(N, T, D)`` of the next layer; the mask is True where there is a word piece."""
        query_NHTE, key_NHTE, value_NHTE = (
            self._heads(part(states_NTD)) for part in (self.query, self.key, self.value)
        )
        attended_NHTE = F.scaled_dot_product_attention(query_NHTE, key_NHTE, value_NHTE, attn_mask=mask_N11T)
        attended_NTD = attended_NHTE.transpose(1, 2).reshape(states_NTD.shape)
        states_NTD = self.attention_norm(self.attention_output(attended_NTD) + states_NTD)
        inner_NTF = F.gelu(self.intermediate(states_NTD))
        output_NTD: Tensor = self.output_norm(self.output(inner_NTF) + states_NTD)
        return output_NTD

    def _heads(self, rows_NTD: Tensor) -> Tensor:
        return rows_NTD.view(*rows_NTD.shape[:2], self.num_heads, -1).transpose(1, 2)


class Bert(nn.Module):
    """The encoder with the settings of a ``config.json`` of type ``bert``."""

    def __init__(self, config: dict[str, Any]) -> None:
        super().__init__()
        width = config["hidden_size"]
        self.width = int(width)
        self.words = Embedding(config["vocab_size"], width)
        self.positions = Embedding(config["max_position_embeddings"], width)
        self.types = Embedding(config["type_vocab_size"], width)
        self.norm = LayerNorm(width, config["layer_norm_eps"])
        self.layers = nn.ModuleList(BertLayer(config) for _ in range(config["num_hidden_layers"]))

    def forward(self, ids_NT: Tensor, mask_NT: Tensor) -> Tensor:
        """States ``(N, T, D)`` of the last layer.

        Args:
            ids_NT: word pieces.
            mask_NT: 1 where there is a word piece, 0 where there is padding.
        """
        types_D, positions_TD = self.types.weight[0], self.positions.weight[: ids_NT.shape[1]]
        states_NTD: Tensor = self.norm(self.words(ids_NT) + types_D + positions_TD)
        # Without padding there is no mask, as in transformers: another kernel, which rounds differently.
        mask_N11T = None if bool(mask_NT.all()) else mask_NT[:, None, None, :].bool()
        for layer in self.layers:
            states_NTD = layer(states_NTD, mask_N11T)
        return states_NTD


# The names of the tensors in a file, and here.
_TOP = {
    "embeddings.word_embeddings": "words",
    "embeddings.position_embeddings": "positions",
    "embeddings.token_type_embeddings": "types",
    "embeddings.LayerNorm": "norm",
}
_LAYER = {
    "attention.self.query": "query",
    "attention.self.key": "key",
    "attention.self.value": "value",
    "attention.output.dense": "attention_output",
    "attention.output.LayerNorm": "attention_norm",
    "intermediate.dense": "intermediate",
    "output.dense": "output",
    "output.LayerNorm": "output_norm",
}


def load_bert(folder: Path) -> Bert:
    """The encoder of a folder in Hugging Face's layout, frozen and in evaluation mode.

    Raises:
        NotFound, CapabilityError: as ``check_folder``, or the folder contains another kind of network.
        IntegrityError: a file is missing or broken, or the weights do not fit the configuration or are not finite.
    """
    config = check_folder(folder)
    if config.get("model_type") != "bert" or config.get("hidden_act", "gelu") != "gelu":
        raise CapabilityError(
            f"{display_name(folder)} contains a model of type {config.get('model_type')!r}", "use a BERT encoder"
        )
    settings = {"layer_norm_eps": 1e-12, "max_position_embeddings": 512, "type_vocab_size": 2, **config}
    invalid = next((name for name in _REQUIRED if not isinstance(settings.get(name), int) or settings[name] < 1), "")
    if not invalid and settings["hidden_size"] % settings["num_attention_heads"]:
        invalid = "num_attention_heads"
    if invalid:
        raise IntegrityError(f"{folder / CONFIG} has no usable value of {invalid}", DOWNLOAD_AGAIN)
    return load_weights(Bert(settings), folder, _UNUSED, _names(settings["num_hidden_layers"]))


def _names(num_layers: int) -> dict[str, str]:
    """The names of the network's tensors, by those in the file."""
    modules = {**_TOP}
    for i in range(num_layers):
        modules |= {f"encoder.layer.{i}.{stored}": f"layers.{i}.{own}" for stored, own in _LAYER.items()}
    return {f"{stored}.{kind}": f"{own}.{kind}" for stored, own in modules.items() for kind in ("weight", "bias")}
