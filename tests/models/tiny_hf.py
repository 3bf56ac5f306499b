"""Real Hugging Face models of tiny, random weights, saved to disk: every adapter is tested with the real classes."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from tokenizers import Tokenizer, models, normalizers, pre_tokenizers, processors
from transformers import (
    CLIPConfig,
    CLIPModel,
    CLIPVisionConfig,
    LlamaConfig,
    LlavaConfig,
    LlavaForConditionalGeneration,
    LlavaProcessor,
    PreTrainedTokenizerFast,
    Siglip2Config,
    Siglip2Model,
    SiglipConfig,
    SiglipModel,
)
from transformers.models.clip.image_processing_pil_clip import CLIPImageProcessorPil
from transformers.models.siglip.image_processing_pil_siglip import SiglipImageProcessorPil
from transformers.models.siglip2.image_processing_pil_siglip2 import Siglip2ImageProcessorPil

TEXT = (
    "a photo of the cat dog red blue green yellow square circle what colour is this question answer : . , ? yes no "
    "picture describe in few words one short which user assistant one two three"
)
LETTERS = "abcdefghijklmnopqrstuvwxyz0123456789"
SPECIAL = ("<pad>", "<bos>", "<unk>", "<image>")
END = "<eos>"  # the last word: CLIP finds the end of a text by it
TOWER = {"hidden_size": 32, "intermediate_size": 48, "num_hidden_layers": 2, "num_attention_heads": 2}


def make_tokenizer(most: int = 77, **kwargs: Any) -> PreTrainedTokenizerFast:
    """Words, and letters for what is no known word, with begin and end marks."""
    words = list(dict.fromkeys([*SPECIAL, *TEXT.split(), *LETTERS, *(f"##{c}" for c in LETTERS), END]))
    vocabulary = {word: i for i, word in enumerate(words)}
    tokenizer = Tokenizer(models.WordPiece(vocabulary, unk_token="<unk>", continuing_subword_prefix="##"))
    tokenizer.normalizer = normalizers.Lowercase()
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence([pre_tokenizers.WhitespaceSplit(), pre_tokenizers.Punctuation()])
    tokenizer.post_processor = processors.TemplateProcessing(
        single="<bos> $A <eos>", special_tokens=[("<bos>", 1), (END, vocabulary[END])]
    )
    return PreTrainedTokenizerFast(
        tokenizer_object=tokenizer,
        pad_token="<pad>",
        bos_token="<bos>",
        eos_token=END,
        unk_token="<unk>",
        model_max_length=most,
        **kwargs,
    )


def make_clip(folder: Path, seed: int = 0) -> Path:
    """A CLIP of two layers and 24 shared dimensions."""
    torch.manual_seed(seed)
    tokenizer = make_tokenizer(12)
    config = CLIPConfig(
        text_config=TOWER
        | {
            "vocab_size": len(tokenizer),
            "max_position_embeddings": 12,
            "bos_token_id": 1,
            "eos_token_id": len(tokenizer) - 1,
            "pad_token_id": 0,
        },
        vision_config=TOWER | {"image_size": 32, "patch_size": 8},
        projection_dim=24,
    )
    CLIPModel(config).save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    CLIPImageProcessorPil(size={"shortest_edge": 32}, crop_size={"height": 32, "width": 32}).save_pretrained(folder)
    return folder


def make_siglip(folder: Path, seed: int = 0) -> Path:
    """A SigLIP that reads 64 pieces."""
    torch.manual_seed(seed)
    tokenizer = make_tokenizer(64)
    config = SiglipConfig(
        text_config=TOWER | {"vocab_size": len(tokenizer), "max_position_embeddings": 64},
        vision_config=TOWER | {"image_size": 32, "patch_size": 8},
    )
    SiglipModel(config).save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    SiglipImageProcessorPil(size={"height": 32, "width": 32}).save_pretrained(folder)
    return folder


def make_siglip2(folder: Path, seed: int = 0) -> Path:
    """A SigLIP 2 of the NaFlex kind: pictures keep their shape, as patches with a mask."""
    torch.manual_seed(seed)
    tokenizer = make_tokenizer(64)
    config = Siglip2Config(
        text_config=TOWER | {"vocab_size": len(tokenizer), "max_position_embeddings": 64},
        vision_config=TOWER | {"patch_size": 8, "num_patches": 16},
    )
    Siglip2Model(config).save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    Siglip2ImageProcessorPil(patch_size=8, max_num_patches=16).save_pretrained(folder)
    return folder


CHAT = (
    "{% for m in messages %}{{ m.role }} : {% for c in m.content %}{% if c.type == 'image' %}<image> "
    "{% else %}{{ c.text }} {% endif %}{% endfor %}{% endfor %}{% if add_generation_prompt %}assistant : {% endif %}"
)


def make_llava(folder: Path, chat: bool = True, seed: int = 0) -> Path:
    """A LLaVA: CLIP's image tower before a Llama, with a chat template or without."""
    torch.manual_seed(seed)
    tokenizer = make_tokenizer(512, extra_special_tokens={"image_token": "<image>"})
    language = TOWER | {
        "vocab_size": len(tokenizer),
        "num_key_value_heads": 2,
        "bos_token_id": 1,
        "eos_token_id": len(tokenizer) - 1,
        "pad_token_id": 0,
    }
    config = LlavaConfig(
        vision_config=CLIPVisionConfig(**TOWER, image_size=32, patch_size=8),
        text_config=LlamaConfig(**language),
        image_token_index=tokenizer.convert_tokens_to_ids("<image>"),
        vision_feature_layer=-1,
        vision_feature_select_strategy="default",
    )
    network = LlavaForConditionalGeneration(config)
    with torch.no_grad():
        network.lm_head.weight.mul_(20)  # random weights of this size would hardly prefer anything
    network.save_pretrained(folder)
    LlavaProcessor(
        CLIPImageProcessorPil(size={"shortest_edge": 32}, crop_size={"height": 32, "width": 32}),
        tokenizer,
        patch_size=8,
        vision_feature_select_strategy="default",
        num_additional_image_tokens=1,
        chat_template=CHAT if chat else None,
    ).save_pretrained(folder)
    return folder
