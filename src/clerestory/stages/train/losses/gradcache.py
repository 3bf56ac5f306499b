"""GradCache: contrastive batches larger than memory, by embedding twice.

A contrastive loss needs all embeddings of a batch at once, but not all activations (Gao, Zhang, Han, Callan 2021,
"Scaling Deep Contrastive Learning Batch Size under Memory Limited Setup", arXiv:2101.06983). So: embed every
micro-batch without a graph; compute the loss of all embeddings and its gradient with respect to them; then embed each
micro-batch again, with a graph, and backpropagate its share of that gradient. This needs the memory of one micro-batch
and one additional forward pass. The random state of each first pass is restored for the second, so that dropout is the
same.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from contextlib import AbstractContextManager, nullcontext
from typing import Any

import torch
from torch import Tensor, nn

from clerestory.core.errors import InputError

Encoded = Tensor | tuple[Tensor, Tensor]
Encode = Callable[[Any], Encoded]


def grad_cache_step(
    encode_image: Encode,
    encode_text: Encode,
    loss: Callable[[Tensor, Tensor], Tensor],
    micro_batches: Sequence[tuple[Any, Any]],
    *,
    modules: Iterable[nn.Module] = (),
    no_sync: Callable[[], AbstractContextManager[Any]] = nullcontext,
) -> Tensor:
    """Add the gradients of one large batch to the parameters, a micro-batch at a time.

    Equal to ``loss(cat(images), cat(texts)).backward()``; extra losses of the encoders are averaged over the
    micro-batches and added. A layer that depends on other rows of its batch (batch normalisation) sees the
    micro-batch. A layer that counts in its forward pass should count only if ``torch.is_grad_enabled()``, or be in
    ``modules``.

    Args:
        encode_image: images of one micro-batch to embeddings ``(b, D)``, or to ``(embeddings, extra loss)``; an extra
            loss is, for example, that of expert balancing.
        encode_text: the same for texts.
        loss: of the embeddings of all images and all texts; its parameters (scale, bias) get gradients, too. The factor
            of a gradient scaler or of an accumulation must be in it and in the extra losses.
        micro_batches: pairs of inputs of the two encoders; iterated twice.
        modules: their buffers (running statistics, counts) are restored after the first pass: a step counts once.
        no_sync: for data parallel training ``model.no_sync``: entered for all micro-batches but the last. The gradients
            of the loss's parameters are computed before; the caller averages them over the processes.

    Returns:
        The loss with the extra losses, without a graph.

    Raises:
        InputError: there is no micro-batch.
    """
    if not micro_batches:
        raise InputError("there are no micro-batches", "give at least one")
    share = 1 / len(micro_batches)
    buffers = [(buffer, buffer.clone()) for module in modules for buffer in module.buffers()]
    states: list[tuple[Tensor, Tensor | None]] = []
    images: list[Tensor] = []
    texts: list[Tensor] = []
    extras: list[Tensor] = []
    with torch.no_grad():
        for image_input, text_input in micro_batches:
            states.append(_random_state())
            for rows, encode, inputs in ((images, encode_image, image_input), (texts, encode_text, text_input)):
                row_bD, extra = _split(encode(inputs))
                rows.append(row_bD)
                if extra is not None:
                    extras.append(share * extra)
        for buffer, before in buffers:
            buffer.copy_(before)
    torch.clear_autocast_cache()  # it may hold half-precision weights of the pass without a graph

    image_ND, text_ND = (torch.cat(rows).requires_grad_() for rows in (images, texts))
    sizes = [len(row) for row in images], [len(row) for row in texts]
    del images, texts
    value = loss(image_ND, text_ND)
    torch.autograd.backward(value)  # not autograd.grad: the parameters of the loss need gradients, too
    image_grads, text_grads = (
        torch.split(torch.zeros_like(rows) if rows.grad is None else rows.grad, size)
        for rows, size in zip((image_ND, text_ND), sizes, strict=True)
    )

    after = _random_state()
    for number, (image_input, text_input) in enumerate(micro_batches):
        _set_random_state(states[number])
        with no_sync() if number + 1 < len(micro_batches) else nullcontext():
            image = encode_image(image_input)
            text = encode_text(text_input)
            _backward(image, image_grads[number], text, text_grads[number], share)
    _set_random_state(after)
    return value.detach() + sum(extras)


def _backward(image: Encoded, image_grad_bD: Tensor, text: Encoded, text_grad_bD: Tensor, share: float) -> None:
    """One backward pass through both encoders; a locked one, whose embeddings have no graph, is skipped."""
    outputs: list[Tensor] = []
    grads: list[Tensor] = []
    for encoded, grad_bD in ((image, image_grad_bD), (text, text_grad_bD)):
        rows_bD, extra = _split(encoded)
        outputs.append(rows_bD)
        grads.append(grad_bD)
        if extra is not None:
            outputs.append(extra)
            grads.append(torch.full_like(extra, share))
    trained = [(output, grad) for output, grad in zip(outputs, grads, strict=True) if output.requires_grad]
    if trained:
        torch.autograd.backward([output for output, _ in trained], [grad for _, grad in trained])


def _split(encoded: Encoded) -> tuple[Tensor, Tensor | None]:
    return encoded if isinstance(encoded, tuple) else (encoded, None)


def _random_state() -> tuple[Tensor, Tensor | None]:
    """Of the CPU and of the current accelerator."""
    device = torch.accelerator.current_accelerator() if torch.accelerator.is_available() else None
    return torch.get_rng_state(), None if device is None else torch.get_device_module(device).get_rng_state()


def _set_random_state(state: tuple[Tensor, Tensor | None]) -> None:
    torch.set_rng_state(state[0])
    if state[1] is not None:
        torch.get_device_module(torch.accelerator.current_accelerator()).set_rng_state(state[1])
