"""Hugging Face image-text-to-text models: answers and likelihoods as the model gives them when called by hand."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from tests.support.images import noise_images
from tests.support.tiny_hf import make_idefics3, make_llava, make_qwen
from transformers import AutoModelForImageTextToText, AutoProcessor

from clerestory.core.errors import InputError
from clerestory.models import GenerationRequest, capabilities, open_reference
from clerestory.models.adapters.hf_chat import ChatModel

QUESTION = "what colour is this"
OPTIONS = ["red", "a blue square", "yellow"]


@pytest.fixture(scope="module", params=["template", "plain"])
def folder(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_llava(tmp_path_factory.mktemp("hf") / "llava", chat=request.param == "template")


@pytest.fixture
def model(folder: Path) -> ChatModel:
    model = open_reference(f"hf:{folder}")
    assert isinstance(model, ChatModel)
    return model


@pytest.fixture
def pictures() -> list[Image.Image]:
    return noise_images(*[(40, 56)] * 2)


def by_hand(folder: Path, model: ChatModel, picture: Image.Image | None) -> tuple[str, torch.nn.Module, dict]:
    """The prompt as it is written out by hand, the network, and the processor's inputs."""
    mark = "<image>" if picture is not None else ""
    templated = model.has_chat_template
    prompt = f"user : {mark + ' ' if mark else ''}{QUESTION} assistant : " if templated else f"{mark}\n{QUESTION}"
    given = {"images": [picture]} if picture is not None else {}
    processor = AutoProcessor.from_pretrained(folder)
    inputs = dict(processor(text=[prompt], return_tensors="pt", add_special_tokens=not templated, **given))
    if not templated:  # this tokenizer ends every text, and a prompt is not over
        inputs = {name: value[:, :-1] if value.ndim == 2 else value for name, value in inputs.items()}
    return prompt, AutoModelForImageTextToText.from_pretrained(folder).eval(), inputs


def test_it_answers_describes_and_scores(model: ChatModel) -> None:
    assert capabilities(model) == ("Scorer", "Captioner", "Generator")
    assert model.order_matters is True
    assert "text only" in model.facts()["no_image"]


@torch.inference_mode()
def test_the_answer_is_that_of_the_model_called_by_hand(
    folder: Path, model: ChatModel, pictures: list[Image.Image]
) -> None:
    replies = model.generate([GenerationRequest(QUESTION, (picture,), 6) for picture in pictures])
    for picture, reply in zip(pictures, replies, strict=True):
        _, network, inputs = by_hand(folder, model, picture)
        asked = inputs["input_ids"].shape[1]
        ids = network.generate(**inputs, max_new_tokens=6, do_sample=False)[0, asked:]
        assert reply.text == model.tokenizer.decode(ids, skip_special_tokens=True).strip()
        assert (reply.tokens_in, reply.tokens_out, reply.error) == (asked, len(ids), "")
        assert reply.cut_off == (len(ids) == 6 and int(ids[-1]) != model.tokenizer.eos_token_id)
        assert reply.ms > 0


def test_a_reply_that_ends_by_itself_is_not_cut_off(model: ChatModel, pictures: list[Image.Image]) -> None:
    request = GenerationRequest(QUESTION, (pictures[0],), 4)
    ends = model.network.generation_config.eos_token_id
    assert model.generate([request])[0].cut_off
    with torch.inference_mode():
        _, inputs = model.inputs(QUESTION, [pictures[0]])
        ids = model.network.generate(**inputs, max_new_tokens=4, do_sample=False)[0]
    try:
        model.network.generation_config.eos_token_id = [int(ids[-4]), 10**6]
        reply = model.generate([request])[0]
        assert (reply.tokens_out, reply.cut_off) == (1, False)
    finally:
        model.network.generation_config.eos_token_id = ends


def test_sampling_is_repeatable(model: ChatModel, pictures: list[Image.Image]) -> None:
    request = GenerationRequest(QUESTION, (pictures[0],), 12, 2.0)
    before = torch.get_rng_state()
    first, second, greedy = model.generate([request, request, GenerationRequest(QUESTION, (pictures[0],), 12)])
    assert first.text == second.text
    assert first.text != greedy.text
    assert torch.equal(torch.get_rng_state(), before)


@torch.inference_mode()
@pytest.mark.parametrize("blind", [False, True])
def test_options_score_as_the_mean_likelihood_of_their_tokens(
    folder: Path, model: ChatModel, pictures: list[Image.Image], blind: bool
) -> None:
    picture = None if blind else pictures[0]
    _, network, inputs = by_hand(folder, model, picture)
    expected = []
    for option in OPTIONS:  # one at a time, one token at a time: the slow way
        ids = inputs["input_ids"]
        found = []
        for token in model.tokenizer(option, add_special_tokens=False)["input_ids"]:
            logits = network(**(inputs | {"input_ids": ids, "attention_mask": torch.ones_like(ids)})).logits[0, -1]
            found.append(float(logits.log_softmax(-1)[token]))
            ids = torch.cat([ids, torch.tensor([[token]])], dim=1)
        expected.append(np.mean(found))
    np.testing.assert_allclose(model.log_likelihoods(picture, QUESTION, OPTIONS).numpy(), expected, atol=1e-4)
    scores = model.score_options([picture], [QUESTION], [OPTIONS])[0]
    np.testing.assert_allclose(scores, expected - np.log(np.exp(expected).sum()), atol=1e-4)


def test_many_options_score_as_few_do(model: ChatModel, pictures: list[Image.Image]) -> None:
    many = [f"{colour} {thing}" for colour in ("red", "blue", "green") for thing in "abcdefgh"]
    whole = model.log_likelihoods(pictures[0], QUESTION, many)
    alone = torch.cat([model.log_likelihoods(pictures[0], QUESTION, [option]) for option in many])
    torch.testing.assert_close(whole, alone, atol=1e-4, rtol=1e-4)


def test_the_picture_changes_the_score(model: ChatModel, pictures: list[Image.Image]) -> None:
    first, second = model.score_options(pictures, [QUESTION] * 2, [OPTIONS] * 2)
    assert not np.allclose(first, second, atol=1e-6)


def test_captions_come_best_first(model: ChatModel, pictures: list[Image.Image]) -> None:
    for candidates in model.caption_images(pictures, 2):
        scores = [s.score for s in candidates]
        assert len({s.text for s in candidates}) == len(candidates) >= 1
        assert scores == sorted(scores, reverse=True)
        assert all(0 < score <= 1 for score in scores)
    assert model.caption_images([], 2) == []
    with pytest.raises(InputError, match="number of captions is 0"):
        model.caption_images(pictures, 0)


@torch.inference_mode()
@pytest.mark.parametrize("make", [make_idefics3, make_qwen])
def test_tiles_and_flat_patches_go_with_every_option(make: object, tmp_path: Path, pictures: list[Image.Image]) -> None:
    """SmolVLM's and Qwen's pixels are laid out differently; a processor's part for videos is not needed."""
    model = open_reference(f"hf:{make(tmp_path / 'model')}")  # type: ignore[operator]  # both are functions
    assert isinstance(model, ChatModel)
    expected = []
    for option in OPTIONS:  # one at a time, whole, without what the adapter does to continue a prompt
        _, inputs = model.inputs(QUESTION, [pictures[0]])
        asked, more = inputs["input_ids"], model.tokenizer(option, add_special_tokens=False)["input_ids"]
        longer = {"input_ids": torch.cat([asked, torch.tensor([more])], dim=1)}
        longer["attention_mask"] = torch.ones_like(longer["input_ids"])
        if "mm_token_type_ids" in inputs:
            longer["mm_token_type_ids"] = torch.nn.functional.pad(inputs["mm_token_type_ids"], (0, len(more)))
        logits = model.network(**(inputs | longer)).logits[0, asked.shape[1] - 1 : -1].log_softmax(-1)
        expected.append(float(logits[range(len(more)), more].mean()))
    np.testing.assert_allclose(model.log_likelihoods(pictures[0], QUESTION, OPTIONS).numpy(), expected, atol=1e-4)
    first, second, blind = model.score_options([*pictures, None], [QUESTION] * 3, [OPTIONS] * 3)
    assert not np.allclose(first, second, atol=1e-6)
    assert not np.allclose(first, blind, atol=1e-6)
    assert model.generate([GenerationRequest(QUESTION, tuple(pictures), 4)])[0].tokens_out == 4
    assert model.caption_images(pictures[:1], 2)[0]
