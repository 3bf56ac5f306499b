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

from clerestory.core.codec import Fact
from clerestory.core.digest import digest
from clerestory.core.errors import CapabilityError
from clerestory.models.adapters.files import files_digest
from clerestory.models.adapters.loading import (
    count_parameters,
    load_config,
    load_frozen_network,
    load_processor,
    model_input,
)
from clerestory.models.clip_scorer import GREY, NO_IMAGE, log_softmax
from clerestory.models.folder_check import display_name
from clerestory.models.loading import quiet_transformers
from clerestory.models.protocols import (
    CaptionCandidate,
    GenerationRequest,
    Reply,
    Scores,
    check_caption_count,
    check_items,
)

CAPTION_PROMPT = "Describe the picture in a few words."
MAX_CAPTION_TOKENS = 32
OPTION_BATCH_SIZE = 16
# Settings of a model's own defaults that would select another decoding method than ours.
NEUTRAL: dict[str, Any] = {"penalty_alpha": None, "dola_layers": None, "num_beam_groups": 1, "num_return_sequences": 1}


class ChatModel:
    """A ``Generator``, a ``Captioner`` and a ``Scorer``; one request at a time, thread-safe.

    Args:
        network: predicts the next token from tokens and images.
        processor: the model's own processor of text and images.
        digest: SHA-256 of the model's files.
        name: for messages.

    Attributes:
        has_chat_template: whether the processor formats prompts with a chat template.
        image_token: the placeholder of an image in a prompt without a chat template; empty if the model needs none.
        caption_prompt: the prompt for captions.
    """

    order_matters = True

    def __init__(self, network: Any, processor: Any, digest: str, name: str) -> None:
        self.network, self.processor, self.digest, self.name = network, processor, digest, name
        self.tokenizer = processor.tokenizer
        self.has_chat_template = bool(getattr(processor, "chat_template", None))
        token = getattr(processor, "boi_token", None) or getattr(processor, "image_token", None) or ""
        self.image_token = str(getattr(token, "content", token))
        self._is_blip = network.config.model_type == "blip"
        self._end = network.config.text_config.sep_token_id if self._is_blip else self.tokenizer.eos_token_id
        # BLIP continues a caption; it was not trained to follow instructions.
        self.caption_prompt = "" if self._is_blip else CAPTION_PROMPT
        self._lock = threading.Lock()

    def generate(self, requests: Sequence[GenerationRequest]) -> list[Reply]:
        """One reply for each request. Sampling is seeded by the prompt: equal requests have equal replies."""
        return [self._reply(request) for request in requests]

    def caption_images(self, images: Sequence[Image.Image], n: int = 3) -> list[list[CaptionCandidate]]:
        """Up to ``n`` distinct captions for each image by beam search, best first.

        Raises:
            InputError: ``n`` is less than 1.
        """
        check_caption_count(n)
        return [self._caption(image, n) for image in images]

    def score_options(
        self, images: Sequence[Image.Image | None], questions: Sequence[str], options: Sequence[Sequence[str]]
    ) -> list[Scores]:
        """Log-probabilities of each item's options.

        The mean log-likelihood of an option's tokens after the prompt (a sum would favour short options), then a
        softmax over the item's options.

        Raises:
            InputError: the numbers of items differ, or an item has no options.
        """
        check_items(images, questions, options)
        return [
            log_softmax(self.log_likelihoods(image, question, choices).double().numpy())
            for image, question, choices in zip(images, questions, options, strict=True)
        ]

    @torch.inference_mode()
    def log_likelihoods(self, image: Image.Image | None, question: str, options: Sequence[str]) -> Tensor:
        """Mean log-likelihood (O,) of the tokens of each option, given image and question."""
        with self._lock:
            prompt, inputs = self.inputs(question, [] if image is None else [image])
            batches = [
                self._log_likelihoods(inputs, prompt, options[i : i + OPTION_BATCH_SIZE])
                for i in range(0, len(options), OPTION_BATCH_SIZE)
            ]
        return torch.cat(batches)

    def facts(self) -> dict[str, Fact]:
        """Architecture, parameters, prompts and scoring method."""
        text_only = "without an image the prompt has text only"
        return {
            "kind": "Hugging Face image-text-to-text model",
            "architecture": type(self.network).__name__,
            "parameters": count_parameters(self.network),
            "prompt": "the model's chat template" if self.has_chat_template else "plain text after the image token",
            "caption_prompt": self.caption_prompt,
            "scoring": "mean log-likelihood per token of each option, softmax over the options",
            "no_image": text_only if self._accepts_text_only else NO_IMAGE,
        }

    @property
    def _accepts_text_only(self) -> bool:
        """Whether the model accepts a prompt without an image."""
        return self.has_chat_template or bool(self.image_token)

    def inputs(self, prompt: str, images: Sequence[Image.Image]) -> tuple[str, dict[str, Tensor]]:
        """The complete prompt as text, and the network's inputs: one row, up to the start of the answer."""
        rgb_images = [model_input(image) for image in images]
        if not rgb_images and not self._accepts_text_only:
            rgb_images = [GREY]
        if self.has_chat_template:
            content = [{"type": "image"} for _ in rgb_images] + [{"type": "text", "text": prompt}]
            text = str(
                self.processor.apply_chat_template([{"role": "user", "content": content}], add_generation_prompt=True)
            )
        else:
            text = self.image_token * len(rgb_images) + ("\n" if rgb_images and self.image_token else "") + prompt
        arguments: dict[str, Any] = {"images": rgb_images} if rgb_images else {}
        if self.has_chat_template and self.tokenizer.bos_token:
            arguments["add_special_tokens"] = False  # the template already contains the begin token
        inputs = self.processor(text=[text], return_tensors="pt", **arguments)
        tensors = {name: value for name, value in inputs.items() if isinstance(value, Tensor)}
        if not self.has_chat_template:
            tensors = _without_end(tensors, self._end)
        if self._is_blip:
            tensors["input_ids"][:, 0] = self.network.config.text_config.bos_token_id
        return text, tensors

    def answer_ids(self, prompt: str, answer: str) -> list[int]:
        """The tokens of an answer after a prompt."""
        separator = "" if prompt[-1:].isspace() else " "
        ids: list[int] = self.tokenizer(separator + answer.strip(), add_special_tokens=False)["input_ids"]
        return ids

    def _reply(self, request: GenerationRequest) -> Reply:
        started = time.perf_counter()
        with self._lock:
            _, inputs = self.inputs(request.prompt, request.images)
            sampling: dict[str, Any] = {"do_sample": False}
            if request.temperature > 0:
                sampling = {"do_sample": True, "temperature": request.temperature}
            with torch.random.fork_rng(devices=[]):
                torch.manual_seed(int(digest([request.prompt, request.max_tokens])[:12], 16))
                ids = self._generate(inputs, max_new_tokens=request.max_tokens, **sampling).sequences[0]
        generated = self._without_prompt(ids, inputs)
        text = self.tokenizer.decode(generated, skip_special_tokens=True).strip()
        milliseconds = (time.perf_counter() - started) * 1e3
        cut_off = len(generated) >= request.max_tokens and int(generated[-1]) not in self._end_tokens
        return Reply(text, inputs["input_ids"].shape[1], len(generated), milliseconds, cut_off=cut_off)

    @property
    def _end_tokens(self) -> set[int]:
        """The tokens that end a reply."""
        settings = getattr(self.network, "generation_config", None)
        ends = getattr(settings, "eos_token_id", None)
        listed = ends if isinstance(ends, list | tuple) else [ends]
        return {int(end) for end in [*listed, self.tokenizer.eos_token_id] if end is not None}

    def _caption(self, image: Image.Image, n: int) -> list[CaptionCandidate]:
        beams = max(n, 2)
        with self._lock:
            _, inputs = self.inputs(self.caption_prompt, [image])
            output = self._generate(
                inputs,
                max_new_tokens=MAX_CAPTION_TOKENS,
                do_sample=False,
                num_beams=beams,
                num_return_sequences=beams,
                length_penalty=1.0,
                output_scores=True,
            )
        best: dict[str, float] = {}
        for ids, score in zip(output.sequences, output.sequences_scores.tolist(), strict=True):
            generated = self._without_prompt(ids, inputs)
            text = " ".join(self.tokenizer.decode(generated, skip_special_tokens=True).split())
            if text:
                best.setdefault(text, min(1.0, math.exp(score)))
        return [CaptionCandidate(text, score) for text, score in best.items()][:n]

    @torch.inference_mode()
    def _generate(self, inputs: dict[str, Tensor], **settings: Any) -> Any:
        """The output of transformers' ``generate``, with these settings in place of the model's own defaults."""
        changes = NEUTRAL if settings.get("do_sample") else NEUTRAL | {"temperature": 1.0, "top_p": 1.0, "top_k": 50}
        if self._is_blip:  # its generate passes on its own padding token, and drops the last token of the prompt
            inputs = append_options(inputs, torch.tensor([[self._end]]), torch.ones(1, 1))
        else:
            pad = self.tokenizer.pad_token_id
            changes = changes | {"pad_token_id": pad if pad is not None else self.tokenizer.eos_token_id}
        with quiet_transformers():
            return self.network.generate(**inputs, **(changes | settings), return_dict_in_generate=True)

    def _without_prompt(self, ids: Tensor, inputs: dict[str, Tensor]) -> Tensor:
        """The generated tokens; the output of some models begins with the prompt."""
        prompt = inputs["input_ids"][0]
        has_prompt = len(ids) >= len(prompt) and bool((ids[: len(prompt)] == prompt).all())
        return ids[len(prompt) :] if has_prompt else ids

    def _log_likelihoods(self, inputs: dict[str, Tensor], prompt: str, options: Sequence[str]) -> Tensor:
        ids = [self.answer_ids(prompt, option) for option in options]
        lengths = [max(1, len(row)) for row in ids]
        pad = self.tokenizer.pad_token_id or 0
        ids_OL = torch.tensor([[*row, *[pad] * (max(lengths) - len(row))] for row in ids])
        valid_OL = torch.arange(max(lengths))[None] < torch.tensor([len(row) for row in ids])[:, None]
        start = inputs["input_ids"].shape[1] - 1
        logits_OLV = self.network(**append_options(inputs, ids_OL, valid_OL)).logits[:, start : start + max(lengths)]
        log_OL = F.log_softmax(logits_OLV.float(), dim=-1).gather(2, ids_OL[..., None])[..., 0]
        return torch.where(valid_OL, log_OL, 0.0).sum(1) / torch.tensor(lengths)


def _without_end(inputs: dict[str, Tensor], end: int | None) -> dict[str, Tensor]:
    """The inputs without the end token that some tokenizers append to every text: the model continues the prompt."""
    ids_1P = inputs["input_ids"]
    if end is None or int(ids_1P[0, -1]) != end:
        return inputs
    return {name: value[:, :-1] if value.shape == ids_1P.shape else value for name, value in inputs.items()}


def append_options(inputs: dict[str, Tensor], ids_OL: Tensor, valid_OL: Tensor) -> dict[str, Tensor]:
    """The inputs of a prompt, repeated for each option and followed by the option's tokens.

    Tensors with one entry per token are extended; all others (pixels, sizes, grids) are only repeated.
    """
    options, prompt_1P = len(ids_OL), inputs["input_ids"]
    extended = {}
    for name, value in inputs.items():
        if value.shape == prompt_1P.shape and name not in ("pixel_values", "image_sizes"):
            more_OL = {"input_ids": ids_OL, "attention_mask": valid_OL.long()}.get(name, torch.zeros_like(ids_OL))
            extended[name] = torch.cat([value.expand(options, -1), more_OL.to(value.dtype)], dim=1)
        else:
            extended[name] = torch.cat([value] * options)
    return extended


def open_chat(folder: Path, name: str = "") -> ChatModel:
    """Open a folder of an image-text-to-text model.

    Raises:
        NotFound, IntegrityError: the folder or one of its files is missing or broken.
        CapabilityError: its weights are not safetensors, it needs custom code or a package that is not installed,
            or it is an encoder-decoder.
    """
    name = name or display_name(folder)
    config = load_config(folder)
    if getattr(config, "is_encoder_decoder", False):
        raise CapabilityError(
            f"{name} is an encoder-decoder ({config.model_type}), which is not supported yet",
            "use a decoder such as SmolVLM, Qwen-VL or LLaVA (hf:org/name)",
        )
    network = load_frozen_network(folder, AutoModelForImageTextToText)
    return ChatModel(network, load_processor(folder, config), files_digest(folder), name)
