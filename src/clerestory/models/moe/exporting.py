"""The mixture as a graph that ONNX and ``torch.export`` can hold, with the same outputs.

Sorting by expert ends in operators that exporters do not know, and stacked weights in ones that int8 quantization
skips or breaks. What works, for any number of tokens: a fixed loop over the experts, each with linear layers of its
own, the rows it is responsible for found by ``nonzero`` and added back by ``index_add``.

Shape suffixes: N tokens, D width, K experts per token, E experts.
"""

# mypy: disable-error-code="no-untyped-call"
# torch leaves a few of the functions called here without types.

from __future__ import annotations

import copy
from typing import TypeVar, cast

import torch
from torch import Tensor, nn

from clerestory.models.moe.experts import Mlp
from clerestory.models.moe.layer import MixtureOfExperts, mixtures
from clerestory.models.moe.routing import route

Module = TypeVar("Module", bound=nn.Module)


class ExportableMixture(nn.Module):
    """A mixture's function, for inference.

    Args:
        mixture: whose weights are copied.
    """

    def __init__(self, mixture: MixtureOfExperts) -> None:
        super().__init__()
        self.top_k, self.gate_kind, self.scale = mixture.top_k, mixture.gate_kind, mixture.scale
        self.gate = copy.deepcopy(mixture.gate)
        self.register_buffer("bias_E", None if mixture.bias_E is None else mixture.bias_E.clone())
        self.shared = copy.deepcopy(mixture.shared)
        self.experts = nn.ModuleList(_expert(mixture, e) for e in range(mixture.num_experts))

    def forward(
        self, x_ND: Tensor, kept_N: Tensor | None = None, modality_N: Tensor | None = None
    ) -> tuple[Tensor, Tensor]:
        """As ``MixtureOfExperts.forward``, with a loss of 0."""
        flat_ND = x_ND.flatten(0, -2)
        bias_E = cast("Tensor | None", self.bias_E)
        routing = route(flat_ND, self.gate.weight, self.top_k, self.gate_kind, bias_E, self.scale)
        y_ND = torch.zeros_like(flat_ND) if self.shared is None else self.shared(flat_ND)
        for number, expert in enumerate(self.experts):
            rows, choices = torch.nonzero(routing.experts_NK == number, as_tuple=True)
            part = expert(flat_ND.index_select(0, rows)) * routing.weights_NK[rows, choices][:, None]
            y_ND = y_ND.index_add(0, rows, part.to(y_ND.dtype))
        if kept_N is not None:
            y_ND = y_ND * kept_N.flatten()[:, None].to(y_ND.dtype)
        return y_ND.view(x_ND.shape), torch.zeros((), device=x_ND.device)


def exportable(model: Module) -> Module:
    """A copy of the model in evaluation mode, its mixtures replaced by ``ExportableMixture``."""
    copied = copy.deepcopy(model).eval()
    if isinstance(copied, MixtureOfExperts):
        # The same forward pass under another class.
        return cast(Module, ExportableMixture(copied).eval())
    for name, mixture in mixtures(copied).items():
        owner, _, leaf = name.rpartition(".")
        setattr(copied.get_submodule(owner), leaf, ExportableMixture(mixture).eval())
    return copied


@torch.no_grad()
def _expert(mixture: MixtureOfExperts, number: int) -> Mlp:
    mlp = Mlp(mixture.gate.in_features, mixture.hidden, mixture.kind, mixture.has_bias).to(mixture.down_EDF)
    mlp.up.weight.copy_(mixture.first_EGD[number])
    mlp.down.weight.copy_(mixture.down_EDF[number])
    if mixture.has_bias:
        mlp.up.bias.copy_(cast(Tensor, mixture.first_bias_EG)[number])
        mlp.down.bias.copy_(cast(Tensor, mixture.down_bias_ED)[number])
    return mlp.requires_grad_(False)
