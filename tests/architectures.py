"""Tiny random models of many architectures, as transformers builds and saves them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
import transformers

_ENCODER = {"vocab_size": 48, "hidden_size": 16, "num_hidden_layers": 2, "num_attention_heads": 2,
            "intermediate_size": 32, "max_position_embeddings": 40}  # fmt: skip
_DECODER = {**_ENCODER, "num_key_value_heads": 2, "bos_token_id": 1, "eos_token_id": 2, "pad_token_id": 0,
            "head_dim": 8}  # fmt: skip
_EXPERTS = {"num_experts": 4, "num_local_experts": 4, "n_routed_experts": 4, "num_experts_per_tok": 2,
            "moe_intermediate_size": 24, "shared_expert_intermediate_size": 24, "decoder_sparse_step": 1}  # fmt: skip
_SEQ2SEQ = {"vocab_size": 48, "d_model": 16, "encoder_layers": 1, "decoder_layers": 1, "encoder_attention_heads": 2,
            "decoder_attention_heads": 2, "encoder_ffn_dim": 32, "decoder_ffn_dim": 32, "max_position_embeddings": 40,
            "pad_token_id": 0, "bos_token_id": 1, "eos_token_id": 2, "decoder_start_token_id": 2}  # fmt: skip
_VISION = {"hidden_size": 16, "num_hidden_layers": 2, "num_attention_heads": 2, "intermediate_size": 32,
           "image_size": 8, "patch_size": 4}  # fmt: skip
_SPEECH = {"vocab_size": 32, "hidden_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2,
           "intermediate_size": 32, "conv_dim": (8, 8), "conv_stride": (5, 2), "conv_kernel": (10, 3),
           "num_feat_extract_layers": 2, "num_conv_pos_embeddings": 4, "num_conv_pos_embedding_groups": 2}  # fmt: skip
_CLIP = {"text_config": {**_ENCODER, "projection_dim": 8}, "vision_config": {**_VISION, "projection_dim": 8},
         "projection_dim": 8}  # fmt: skip


@dataclass(frozen=True)
class Kind:
    """An architecture: a class of transformers, and the settings of a tiny one."""

    name: str
    """Name of the class."""
    config: str
    """Name of the class of its configuration."""
    settings: Mapping[str, Any] = field(default_factory=dict)

    @property
    def lora_targets(self) -> str | list[str]:
        """Modules of a LoRA: all linear layers, but where PEFT cannot tell them."""
        return {"MambaForCausalLM": ["in_proj", "x_proj"], "Wav2Vec2ForCTC": ["q_proj", "out_proj"]}.get(
            self.name, "all-linear"
        )


def _kinds(*kinds: tuple[str, str, Mapping[str, Any]]) -> dict[str, Kind]:
    return {name: Kind(name, config, settings) for name, config, settings in kinds}


KINDS = _kinds(
    # encoders of text
    ("BertForMaskedLM", "BertConfig", _ENCODER),
    ("RobertaForSequenceClassification", "RobertaConfig", _ENCODER),
    ("XLMRobertaModel", "XLMRobertaConfig", _ENCODER),
    ("DistilBertForMaskedLM", "DistilBertConfig", {"vocab_size": 48, "dim": 16, "n_layers": 2, "n_heads": 2,
                                                   "hidden_dim": 32}),
    ("AlbertForMaskedLM", "AlbertConfig", {**_ENCODER, "embedding_size": 8}),
    ("ElectraForPreTraining", "ElectraConfig", {**_ENCODER, "embedding_size": 8}),
    ("DebertaForMaskedLM", "DebertaConfig", _ENCODER),
    ("DebertaV2ForTokenClassification", "DebertaV2Config", _ENCODER),
    ("MPNetModel", "MPNetConfig", _ENCODER),
    ("ModernBertForMaskedLM", "ModernBertConfig", {**_ENCODER, "pad_token_id": 0, "global_attn_every_n_layers": 2}),
    ("EsmForMaskedLM", "EsmConfig", {**_ENCODER, "pad_token_id": 1, "mask_token_id": 2}),
    ("XLNetLMHeadModel", "XLNetConfig", {"vocab_size": 48, "d_model": 16, "n_layer": 2, "n_head": 2, "d_inner": 32}),
    # decoders
    ("GPT2LMHeadModel", "GPT2Config", {"vocab_size": 48, "n_embd": 16, "n_layer": 2, "n_head": 2, "n_positions": 40,
                                       "bos_token_id": 1, "eos_token_id": 2}),
    ("GPTNeoForCausalLM", "GPTNeoConfig", {"vocab_size": 48, "hidden_size": 16, "num_layers": 2, "num_heads": 2,
                                           "attention_types": [[["global", "local"], 1]], "intermediate_size": 32,
                                           "bos_token_id": 1, "eos_token_id": 2}),
    ("GPTNeoXForCausalLM", "GPTNeoXConfig", _ENCODER),
    ("GPTJForCausalLM", "GPTJConfig", {"vocab_size": 48, "n_embd": 16, "n_layer": 1, "n_head": 2, "rotary_dim": 4,
                                       "bos_token_id": 1, "eos_token_id": 2}),
    ("OPTForCausalLM", "OPTConfig", {**_ENCODER, "ffn_dim": 32, "word_embed_proj_dim": 16}),
    ("BloomForCausalLM", "BloomConfig", {"vocab_size": 48, "hidden_size": 16, "n_layer": 2, "n_head": 2}),
    ("FalconForCausalLM", "FalconConfig", {**_ENCODER, "bos_token_id": 1, "eos_token_id": 2}),
    ("LlamaForCausalLM", "LlamaConfig", _DECODER),
    ("LlamaForSequenceClassification", "LlamaConfig", _DECODER),
    ("MistralForCausalLM", "MistralConfig", _DECODER),
    ("Qwen2ForCausalLM", "Qwen2Config", {**_DECODER, "tie_word_embeddings": True}),
    ("Qwen3ForCausalLM", "Qwen3Config", _DECODER),
    ("GemmaForCausalLM", "GemmaConfig", _DECODER),
    ("Gemma2ForCausalLM", "Gemma2Config", _DECODER),
    ("Gemma3ForCausalLM", "Gemma3TextConfig", _DECODER),
    ("PhiForCausalLM", "PhiConfig", _DECODER),
    ("Phi3ForCausalLM", "Phi3Config", _DECODER),
    ("Olmo2ForCausalLM", "Olmo2Config", _DECODER),
    ("CohereForCausalLM", "CohereConfig", _DECODER),
    ("MixtralForCausalLM", "MixtralConfig", {**_DECODER, **_EXPERTS}),
    ("Qwen3MoeForCausalLM", "Qwen3MoeConfig", {**_DECODER, **_EXPERTS}),
    ("GptOssForCausalLM", "GptOssConfig", {**_DECODER, **_EXPERTS}),
    ("MambaForCausalLM", "MambaConfig", {"vocab_size": 48, "hidden_size": 16, "num_hidden_layers": 2, "state_size": 4}),
    # text to text
    ("T5ForConditionalGeneration", "T5Config", {"vocab_size": 48, "d_model": 16, "d_kv": 8, "d_ff": 32, "num_layers": 1,
                                                "num_heads": 2, "decoder_start_token_id": 0}),
    ("BartForConditionalGeneration", "BartConfig", _SEQ2SEQ),
    ("MarianMTModel", "MarianConfig", _SEQ2SEQ),
    ("WhisperForConditionalGeneration", "WhisperConfig", {**_SEQ2SEQ, "num_mel_bins": 8, "max_source_positions": 20,
                                                          "max_target_positions": 20}),
    # sound and images
    ("Wav2Vec2ForCTC", "Wav2Vec2Config", _SPEECH),
    ("HubertModel", "HubertConfig", _SPEECH),
    ("ViTForImageClassification", "ViTConfig", _VISION),
    ("DeiTForImageClassification", "DeiTConfig", _VISION),
    ("BeitForImageClassification", "BeitConfig", _VISION),
    ("Dinov2Model", "Dinov2Config", _VISION),
    ("SwinForImageClassification", "SwinConfig", {"image_size": 16, "patch_size": 4, "embed_dim": 8, "depths": [1, 1],
                                                  "num_heads": [2, 2], "window_size": 2}),
    ("ConvNextForImageClassification", "ConvNextConfig", {"hidden_sizes": [8, 16], "depths": [1, 1], "num_stages": 2,
                                                          "image_size": 32}),
    ("CLIPModel", "CLIPConfig", _CLIP),
    ("SiglipModel", "SiglipConfig", {"text_config": _ENCODER, "vision_config": _VISION}),
    # images and text
    ("LlavaForConditionalGeneration", "LlavaConfig", {
        "text_config": {**_DECODER, "model_type": "llama"},
        "vision_config": {**_VISION, "model_type": "clip_vision_model"}}),
    ("Gemma3ForConditionalGeneration", "Gemma3Config", {"text_config": _DECODER, "vision_config": _VISION,
                                                        "mm_tokens_per_image": 4}),
    ("Qwen2VLForConditionalGeneration", "Qwen2VLConfig", {
        "text_config": {**_DECODER, "rope_parameters": {"rope_type": "default", "mrope_section": [1, 1, 2]}},
        "vision_config": {"depth": 1, "embed_dim": 16, "hidden_size": 16, "num_heads": 2, "patch_size": 4}}),
)  # fmt: skip
"""All architectures of the survey, by the name of their class."""


def build(kind: Kind, *, seed: int = 0) -> Any:
    """Return a random model."""
    config = getattr(transformers, kind.config)(**kind.settings)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return getattr(transformers, kind.name)(config).float().eval()


def fine_tuned(kind: Kind, *, seed: int) -> Any:
    """Return the model of seed 0, with every parameter moved."""
    model = build(kind)
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(0.05 * torch.randn(parameter.shape, generator=generator))
    return model


def save(model: Any, folder: Path) -> Path:
    """Write a model as `save_pretrained` does."""
    model.save_pretrained(folder)
    return folder
