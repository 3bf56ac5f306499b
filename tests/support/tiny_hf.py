"""Real Hugging Face models of tiny, random weights, saved to disk: every adapter is tested with the real classes."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from tokenizers import Tokenizer, models, normalizers, pre_tokenizers, processors
from transformers import (
    BertConfig,
    BertModel,
    BlipConfig,
    BlipForConditionalGeneration,
    BlipModel,
    BlipProcessor,
    CLIPConfig,
    CLIPModel,
    CLIPVisionConfig,
    Idefics3Config,
    Idefics3ForConditionalGeneration,
    LlamaConfig,
    LlavaConfig,
    LlavaForConditionalGeneration,
    LlavaProcessor,
    PreTrainedTokenizerFast,
    Qwen2VLConfig,
    Qwen2VLForConditionalGeneration,
    Siglip2Config,
    Siglip2Model,
    SiglipConfig,
    SiglipModel,
)
from transformers.models.blip.image_processing_pil_blip import BlipImageProcessorPil
from transformers.models.clip.image_processing_pil_clip import CLIPImageProcessorPil
from transformers.models.idefics3.image_processing_pil_idefics3 import Idefics3ImageProcessorPil
from transformers.models.qwen2_vl.image_processing_pil_qwen2_vl import Qwen2VLImageProcessorPil
from transformers.models.siglip.image_processing_pil_siglip import SiglipImageProcessorPil
from transformers.models.siglip2.image_processing_pil_siglip2 import Siglip2ImageProcessorPil

TEXT = (
    "a photo of the cat dog red blue green yellow square circle what colour is this question answer : . , ? yes no "
    "picture describe in few words one short which user assistant one two three"
)
LETTERS = "abcdefghijklmnopqrstuvwxyz0123456789"
SPECIAL = ("<pad>", "<bos>", "<unk>", "<image>")
END = "<eos>"  # the last token: CLIP finds the end of a text by it
TOWER = {"hidden_size": 32, "intermediate_size": 48, "num_hidden_layers": 2, "num_attention_heads": 2}


def make_tokenizer(most: int = 77, **kwargs: Any) -> PreTrainedTokenizerFast:
    """A WordPiece tokenizer with letters for unknown words, and begin and end tokens."""
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
    """A SigLIP with 64 text tokens."""
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
    """A SigLIP 2 NaFlex: images keep their aspect ratio, as patches with a mask."""
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


def _language(tokenizer: PreTrainedTokenizerFast) -> dict[str, Any]:
    end = tokenizer.convert_tokens_to_ids(END)
    marks = {"bos_token_id": 1, "eos_token_id": end, "pad_token_id": 0}
    return TOWER | marks | {"vocab_size": len(tokenizer), "num_key_value_heads": 2}


def _scale_logits(network: Any) -> None:
    """Scale the output layer: the logits of random weights of this size are almost equal."""
    with torch.no_grad():
        network.lm_head.weight.mul_(20)


def make_llava(folder: Path, chat: bool = True, seed: int = 0) -> Path:
    """A LLaVA: CLIP's image tower before a Llama, with a chat template or without."""
    torch.manual_seed(seed)
    tokenizer = make_tokenizer(512, extra_special_tokens={"image_token": "<image>"})
    config = LlavaConfig(
        vision_config=CLIPVisionConfig(**TOWER, image_size=32, patch_size=8),
        text_config=LlamaConfig(**_language(tokenizer)),
        image_token_index=tokenizer.convert_tokens_to_ids("<image>"),
        vision_feature_layer=-1,
        vision_feature_select_strategy="default",
    )
    network = LlavaForConditionalGeneration(config)
    _scale_logits(network)
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


def make_idefics3(folder: Path, seed: int = 0) -> Path:
    """An Idefics 3, which is what SmolVLM is: images in tiles, pixels with a mask."""
    torch.manual_seed(seed)
    marks = ["<fake_token_around_image>", "<global-img>", "<end_of_utterance>"]
    tokenizer = make_tokenizer(2048, extra_special_tokens=marks)
    config = Idefics3Config(
        image_token_id=tokenizer.convert_tokens_to_ids("<image>"),
        scale_factor=2,
        pad_token_id=0,
        text_config=_language(tokenizer) | {"model_type": "llama"},
        vision_config=TOWER | {"image_size": 32, "patch_size": 8},
    )
    network = Idefics3ForConditionalGeneration(config)
    _scale_logits(network)
    network.save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    edge = {"longest_edge": 32}
    Idefics3ImageProcessorPil(size=edge, max_image_size=edge).save_pretrained(folder)
    about = '{"processor_class": "Idefics3Processor", "image_seq_len": 4}'
    (folder / "processor_config.json").write_text(about, encoding="utf-8")
    (folder / "chat_template.jinja").write_text(CHAT, encoding="utf-8")
    return folder


def make_qwen(folder: Path, seed: int = 0) -> Path:
    """A Qwen2-VL: images of any size as a flat list of patches, and a processor with video support."""
    torch.manual_seed(seed)
    marks = {
        "image_token_id": "<|image_pad|>",
        "video_token_id": "<|video_pad|>",
        "vision_start_token_id": "<|vision_start|>",
        "vision_end_token_id": "<|vision_end|>",
    }
    tokenizer = make_tokenizer(512, extra_special_tokens=list(marks.values()))
    rope = {"rope_type": "default", "rope_theta": 10000.0, "mrope_section": [2, 3, 3]}
    vision = {"depth": 2, "embed_dim": 32, "hidden_size": 32, "num_heads": 2, "mlp_ratio": 2, "patch_size": 8}
    config = Qwen2VLConfig(
        text_config=_language(tokenizer) | {"rope_parameters": rope},
        vision_config=vision,
        **{name: tokenizer.convert_tokens_to_ids(mark) for name, mark in marks.items()},
    )
    network = Qwen2VLForConditionalGeneration(config)
    _scale_logits(network)
    network.save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    Qwen2VLImageProcessorPil(patch_size=8, min_pixels=16 * 16, max_pixels=64 * 64).save_pretrained(folder)
    chat = CHAT.replace("<image>", "<|vision_start|><|image_pad|><|vision_end|>")
    (folder / "chat_template.jinja").write_text(chat, encoding="utf-8")
    return folder


def _blip_config(tokenizer: PreTrainedTokenizerFast) -> BlipConfig:
    marks = {"bos_token_id": 1, "pad_token_id": 0, "eos_token_id": tokenizer.convert_tokens_to_ids(END)}
    text = TOWER | marks | {"vocab_size": len(tokenizer), "sep_token_id": marks["eos_token_id"]}
    return BlipConfig(
        text_config=text | {"max_position_embeddings": 64, "encoder_hidden_size": 32, "projection_dim": 24},
        vision_config=TOWER | {"image_size": 32, "patch_size": 8, "projection_dim": 24},
        projection_dim=24,
    )


def _make_blip(folder: Path, architecture: type[Any], seed: int) -> Path:
    torch.manual_seed(seed)
    tokenizer = make_tokenizer(64)
    architecture(_blip_config(tokenizer)).save_pretrained(folder)
    BlipProcessor(BlipImageProcessorPil(size={"height": 32, "width": 32}), tokenizer).save_pretrained(folder)
    return folder


def make_blip_captioner(folder: Path, seed: int = 0) -> Path:
    """A BLIP that writes captions."""
    return _make_blip(folder, BlipForConditionalGeneration, seed)


def make_blip_dual(folder: Path, seed: int = 0) -> Path:
    """A BLIP that embeds images and texts: of the same type as the captioner, with another architecture."""
    return _make_blip(folder, BlipModel, seed)


def make_text_tower(folder: Path, seed: int = 0) -> Path:
    """A BERT with the files of the text tower."""
    torch.manual_seed(seed)
    tokenizer = make_tokenizer(64)
    BertModel(BertConfig(**TOWER, vocab_size=len(tokenizer), max_position_embeddings=64)).save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return folder
