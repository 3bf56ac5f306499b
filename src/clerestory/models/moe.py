"""A mixture of experts in place of a Transformer block's MLP: top-k, dropless, gate in fp32.

Shape suffixes: N tokens of the whole batch, D width, F hidden width of an expert, E experts, K experts per token.
"""

# mypy: disable-error-code="no-untyped-call"
# torch and transformers leave a few of the functions called here without types.

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F


class MixtureOfExperts(nn.Module):
    """Each token visits the ``top_k`` experts its gate prefers; no token is dropped and none padded.

    The tokens are sorted by expert (stable), each expert multiplies its own contiguous slice, and the inverse
    permutation brings the results back, so the sum over K has a fixed order. The oracle in the tests is the naive
    loop ``sum_k gate[n, k] * expert[index[n, k]](x[n])``.

    Args:
        width: D.
        hidden: F of one expert. With ``hidden = dense_hidden / top_k`` a token costs what it costs in a dense MLP.
        experts: E.
        top_k: K.
    """

    def __init__(self, width: int, hidden: int, experts: int, top_k: int) -> None:
        super().__init__()
        self.top_k = top_k
        self.gate = nn.Linear(width, experts, bias=False)
        self.up_EFD = nn.Parameter(torch.empty(experts, hidden, width))
        self.down_EDF = nn.Parameter(torch.empty(experts, width, hidden))

    def forward(self, x_ND: Tensor) -> tuple[Tensor, Tensor]:
        """The mixed output ``(N, D)`` and the load-balance loss, a scalar that is 1 when every expert is used alike."""
        n_tokens, n_experts = x_ND.shape[0], self.up_EFD.shape[0]
        probabilities_NE = F.softmax(F.linear(x_ND.float(), self.gate.weight.float()), dim=-1)
        weights_NK, experts_NK = probabilities_NE.topk(self.top_k, dim=-1)
        weights_NK = weights_NK / weights_NK.sum(dim=-1, keepdim=True)

        order = torch.argsort(experts_NK.flatten(), stable=True)
        counts_E = torch.bincount(experts_NK.flatten(), minlength=n_experts)
        slices = (x_ND[order // self.top_k]).split(counts_E.tolist())
        pieces = [
            F.linear(F.gelu(F.linear(piece, up_FD)), down_DF)
            for piece, up_FD, down_DF in zip(slices, self.up_EFD.unbind(0), self.down_EDF.unbind(0), strict=True)
        ]
        back = torch.argsort(order)
        y_NKD = torch.cat(pieces)[back].view(n_tokens, self.top_k, -1)
        y_ND = (y_NKD * weights_NK.to(y_NKD.dtype)[..., None]).sum(dim=1)

        share_E = counts_E.to(probabilities_NE.dtype) / (n_tokens * self.top_k)
        balance = n_experts * (share_E * probabilities_NE.mean(dim=0)).sum()
        return y_ND, balance
