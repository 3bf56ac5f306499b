"""Any Hugging Face image-text-to-text model (LLaVA, Qwen-VL, SmolVLM, Gemma 3, PaliGemma …) on this machine.

Shape suffixes: P tokens of a prompt, L tokens of the longest option, O options of one item, V vocabulary.
"""

# mypy: disable-error-code="no-untyped-call"
# torch and transformers leave a few of the functions called here without types.

from __future__ import annotations

import math
import threading
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from PIL import Image
from torch import Tensor
from torch.nn import functional as F
from transformers import AutoModelForImageTextToText

from clerestory.core.digest import digest
from clerestory.core.errors import CapabilityError
from clerestory.models.adapters.files import check_folder, files_digest
from clerestory.models.adapters.loading import (
    count_parameters,
    read_config,
    read_network,
    read_processor,
    rgb,
)
from clerestory.models.clip_scorer import GREY, log_softmax
from clerestory.models.protocols import CaptionCandidate, GenerationRequest, Reply, Scores, check_items

DESCRIBE = "Describe the picture in a few words."
CAPTION_TOKENS = 32
SCORED_AT_ONCE = 16  # options in one pass through the network


class ChatModel:
    """A ``Generator``, a ``Captioner`` and a ``Scorer``; one question at a time, safe from several threads.

    Args:
        network: predicts the next token from tokens and pictures.
        processor: the model's own; puts words and pictures together.
        digest: SHA-256 of the model's files.
        name: for messages.

    Attributes:
        image_token: the mark that stands for a picture in a plain prompt; empty where pictures are given apart.
    """

    order_matters = True

    def __init__(self, network: Any, processor: Any, digest: str, name: str) -> None:
        self.network, self.processor, self.digest, self.name = network, processor, digest, name
        self.tokenizer = processor.tokenizer
        self.chat = bool(getattr(processor, "chat_template", None))
        token = getattr(processor, "boi_token", None) or getattr(processor, "image_token", None) or ""
        self.image_token = str(getattr(token, "content", token))
        self._one_at_a_time = threading.Lock()

    def generate(self, requests: Sequence[GenerationRequest]) -> list[Reply]:
        """One reply for each request. Sampling is seeded by the prompt: the same request gives the same reply."""
        return [self._answer(request) for request in requests]

    def caption_images(self, images: Sequence[Image.Image], n: int = 3) -> list[list[CaptionCandidate]]:
        """Up to ``n`` distinct captions for each picture by beam search, best first."""
        if n < 1:
            raise CapabilityError(f"{n} suggestions were asked for", "ask for at least one")
        return [self._describe(image, n) for image in images]

    def score_options(
        self, images: Sequence[Image.Image | None], questions: Sequence[str], options: Sequence[Sequence[str]]
    ) -> list[Scores]:
        """Log-probabilities of each item's options.

        The log-likelihood of an option's tokens after the prompt, divided by their number (or a long option could
        never win), then brought to a sum of 1 over the item's options.

        Raises:
            InputError: the numbers of items differ, or an item has no options.
        """
        check_items(images, questions, options)
        return [
            log_softmax(self.likelihoods(image, question, some).double().numpy())
            for image, question, some in zip(images, questions, options, strict=True)
        ]

    @torch.inference_mode()
    def likelihoods(self, image: Image.Image | None, question: str, options: Sequence[str]) -> Tensor:
        """Mean log-likelihood (O,) of the tokens of each option, given picture and question."""
        with self._one_at_a_time:
            prompt, inputs = self.inputs(question, [] if image is None else [image])
            parts = [
                self._likelihoods(inputs, prompt, options[i : i + SCORED_AT_ONCE])
                for i in range(0, len(options), SCORED_AT_ONCE)
            ]
        return torch.cat(parts)

    def facts(self) -> dict[str, str]:
        """What it is, in short strings."""
        blind = "without an image the prompt holds words only" if self._takes_none else "blind: a plain grey picture"
        return {
            "kind": "Hugging Face image-text-to-text model",
            "architecture": type(self.network).__name__,
            "parameters": str(count_parameters(self.network)),
            "prompt": "the model's chat template" if self.chat else "plain words after the mark of the picture",
            "describe": DESCRIBE,
            "scoring": "mean log-likelihood per token of each option, softmax over the options",
            "blind": blind,
        }

    @property
    def _takes_none(self) -> bool:
        """Whether the model reads words without any picture."""
        return self.chat or bool(self.image_token)

    def inputs(self, prompt: str, images: Sequence[Image.Image]) -> tuple[str, dict[str, Tensor]]:
        """The whole prompt as text, and what the network takes for it: one row, up to where an answer begins."""
        pictures = [rgb(image) for image in images]
        if not pictures and not self._takes_none:
            pictures = [GREY]
        if self.chat:
            said = [{"type": "image"} for _ in pictures] + [{"type": "text", "text": prompt}]
            text = str(
                self.processor.apply_chat_template([{"role": "user", "content": said}], add_generation_prompt=True)
            )
        else:
            text = self.image_token * len(pictures) + ("\n" if pictures and self.image_token else "") + prompt
        given = {"images": pictures} if pictures else {}
        # A template writes the begin mark itself.
        marks = {"add_special_tokens": False} if self.chat and self.tokenizer.bos_token else {}
        inputs = self.processor(text=[text], return_tensors="pt", **given, **marks)
        tensors = {name: value for name, value in inputs.items() if isinstance(value, Tensor)}
        return text, tensors if self.chat else _without_end(tensors, self.tokenizer.eos_token_id)

    def answer_ids(self, prompt: str, answer: str) -> list[int]:
        """The tokens of an answer that follows a prompt."""
        before = "" if prompt[-1:].isspace() else " "
        ids: list[int] = self.tokenizer(before + answer.strip(), add_special_tokens=False)["input_ids"]
        return ids

    def _answer(self, request: GenerationRequest) -> Reply:
        started = time.perf_counter()
        with self._one_at_a_time:
            _, inputs = self.inputs(request.prompt, request.images)
            sampling: dict[str, Any] = {"do_sample": False}
            if request.temperature > 0:
                sampling = {"do_sample": True, "temperature": request.temperature}
            with torch.random.fork_rng(devices=[]):
                torch.manual_seed(int(digest([request.prompt, request.max_tokens])[:12], 16))
                ids = self._generate(inputs, max_new_tokens=request.max_tokens, **sampling).sequences[0]
        written = self._written(ids, inputs)
        text = self.tokenizer.decode(written, skip_special_tokens=True).strip()
        milliseconds = (time.perf_counter() - started) * 1e3
        return Reply(text, inputs["input_ids"].shape[1], len(written), milliseconds)

    def _describe(self, image: Image.Image, n: int) -> list[CaptionCandidate]:
        beams = max(n, 2)
        with self._one_at_a_time:
            _, inputs = self.inputs(DESCRIBE, [image])
            found = self._generate(
                inputs,
                max_new_tokens=CAPTION_TOKENS,
                do_sample=False,
                num_beams=beams,
                num_return_sequences=beams,
                length_penalty=1.0,
                output_scores=True,
            )
        best: dict[str, float] = {}
        for ids, score in zip(found.sequences, found.sequences_scores.tolist(), strict=True):
            text = " ".join(self.tokenizer.decode(self._written(ids, inputs), skip_special_tokens=True).split())
            if text:
                best.setdefault(text, min(1.0, math.exp(score)))
        return [CaptionCandidate(text, score) for text, score in best.items()][:n]

    @torch.inference_mode()
    def _generate(self, inputs: dict[str, Tensor], **settings: Any) -> Any:
        """What ``generate`` of transformers gives, greedy or as asked, whatever the model's own defaults are."""
        pad = self.tokenizer.pad_token_id
        padding = {"pad_token_id": pad if pad is not None else self.tokenizer.eos_token_id}
        neutral: dict[str, Any] = {} if settings.get("do_sample") else {"temperature": 1.0, "top_p": 1.0, "top_k": 50}
        return self.network.generate(**inputs, **(neutral | padding | settings), return_dict_in_generate=True)

    def _written(self, ids: Tensor, inputs: dict[str, Tensor]) -> Tensor:
        """The tokens after the prompt; some models repeat it in their answer and some do not."""
        asked = inputs["input_ids"][0]
        repeats = len(ids) >= len(asked) and bool((ids[: len(asked)] == asked).all())
        return ids[len(asked) :] if repeats else ids

    def _likelihoods(self, inputs: dict[str, Tensor], prompt: str, options: Sequence[str]) -> Tensor:
        ids = [self.answer_ids(prompt, option) for option in options]
        lengths = [max(1, len(some)) for some in ids]
        fill = self.tokenizer.pad_token_id or 0
        ids_OL = torch.tensor([[*some, *[fill] * (max(lengths) - len(some))] for some in ids])
        kept_OL = torch.arange(max(lengths))[None] < torch.tensor([len(some) for some in ids])[:, None]
        asked = inputs["input_ids"].shape[1]
        whole = continued(inputs, ids_OL, kept_OL)
        logits_OLV = self.network(**whole).logits[:, asked - 1 : asked - 1 + max(lengths)]
        log_OL = F.log_softmax(logits_OLV.float(), dim=-1).gather(2, ids_OL[..., None])[..., 0]
        return torch.where(kept_OL, log_OL, 0.0).sum(1) / torch.tensor(lengths)


def _without_end(inputs: dict[str, Tensor], end: int | None) -> dict[str, Tensor]:
    """A prompt is not over: the end mark that some tokenizers set behind every text is taken off."""
    ids_1P = inputs["input_ids"]
    if end is None or int(ids_1P[0, -1]) != end:
        return inputs
    return {name: value[:, :-1] if value.shape == ids_1P.shape else value for name, value in inputs.items()}


def continued(inputs: dict[str, Tensor], ids_OL: Tensor, kept_OL: Tensor) -> dict[str, Tensor]:
    """The inputs of a prompt, once for each option, with its tokens after it.

    What has one entry per token grows with the option; everything else (pixels, sizes, grids) is repeated.
    """
    options, prompt_1P = len(ids_OL), inputs["input_ids"]
    whole = {}
    for name, value in inputs.items():
        if value.shape == prompt_1P.shape and name not in ("pixel_values", "image_sizes"):
            more_OL = {"input_ids": ids_OL, "attention_mask": kept_OL.long()}.get(name, torch.zeros_like(ids_OL))
            whole[name] = torch.cat([value.expand(options, -1), more_OL.to(value.dtype)], dim=1)
        else:
            whole[name] = torch.cat([value] * options)
    return whole


def open_chat(folder: Path, name: str = "") -> ChatModel:
    """Open a folder of an image-text-to-text model.

    Raises:
        NotFound, IntegrityError: the folder or a part of it is missing or broken.
        CapabilityError: its weights are no safetensors, it needs code of its own or a package that is not here, or it
            is an encoder-decoder.
    """
    check_folder(folder)
    config = read_config(folder)
    if getattr(config, "is_encoder_decoder", False):
        raise CapabilityError(
            f"{name or folder.name} is an encoder-decoder ({config.model_type}), which is not supported yet",
            "use a decoder such as SmolVLM, Qwen-VL or LLaVA (hf:org/name)",
        )
    network = read_network(folder, AutoModelForImageTextToText)
    return ChatModel(network, read_processor(folder, config), files_digest(folder), name or folder.name)
