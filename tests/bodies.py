"""Tiny random models of many architectures, each a complete folder with a working tokenizer."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from tiny_model import VOCABULARY_SIZE, write_tokenizer

_SIZES = {
    "vocab_size": VOCABULARY_SIZE, "hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 4,
    "intermediate_size": 64, "max_position_embeddings": 64, "pad_token_id": 0,
}  # fmt: skip
_OFFSET = {"max_position_embeddings": 66, "pad_token_id": 1}  # positions are counted from behind the padding's
_XLM = {"vocab_size": VOCABULARY_SIZE, "emb_dim": 32, "n_layers": 2, "n_heads": 4, "max_position_embeddings": 64}
_GPT = {"vocab_size": VOCABULARY_SIZE, "n_embd": 32, "n_layer": 2, "n_head": 4, "n_positions": 64}
_T5 = {
    "vocab_size": VOCABULARY_SIZE, "d_model": 32, "d_kv": 8, "d_ff": 64, "num_layers": 2, "num_heads": 4,
    "pad_token_id": 0,
}  # fmt: skip
_FUNNEL = {
    "vocab_size": VOCABULARY_SIZE, "d_model": 32, "n_head": 4, "d_head": 8, "d_inner": 64, "block_sizes": [1, 1],
    "block_repeats": [1, 1],
}  # fmt: skip
_RELATIVE = {"relative_attention": True, "pos_att_type": ["c2p", "p2c"]}

ENCODERS: dict[str, tuple[str, dict[str, Any]]] = {
    "BERT": ("bert", _SIZES),
    "RoBERTa": ("roberta", _SIZES | _OFFSET),
    "XLM-R": ("xlm-roberta", _SIZES | _OFFSET),
    "XLM-R XL": ("xlm-roberta-xl", _SIZES | _OFFSET),
    "CamemBERT": ("camembert", _SIZES | _OFFSET),
    "RoBERTa PreLN": ("roberta-prelayernorm", _SIZES | _OFFSET),
    "Data2VecText": ("data2vec-text", _SIZES | _OFFSET),
    "X-MOD": ("xmod", _SIZES | _OFFSET | {"languages": ["en_XX"], "default_language": "en_XX"}),
    "MPNet": ("mpnet", _SIZES | _OFFSET),
    "I-BERT": ("ibert", _SIZES | _OFFSET),
    "Longformer": ("longformer", _SIZES | _OFFSET | {"attention_window": 8}),
    "LUKE": ("luke", _SIZES | _OFFSET | {"entity_vocab_size": 10, "entity_emb_size": 8}),
    "DistilBERT": (
        "distilbert",
        {"vocab_size": VOCABULARY_SIZE, "dim": 32, "n_layers": 2, "n_heads": 4, "hidden_dim": 64}
        | {"max_position_embeddings": 64},
    ),
    "ALBERT": ("albert", _SIZES | {"embedding_size": 16}),
    "ELECTRA": ("electra", _SIZES | {"embedding_size": 16}),
    "DeBERTa": ("deberta", _SIZES | _RELATIVE),
    "DeBERTa-v2": ("deberta-v2", _SIZES | _RELATIVE | {"position_buckets": 8, "conv_kernel_size": 3}),
    "XLNet": ("xlnet", {"vocab_size": VOCABULARY_SIZE, "d_model": 32, "n_layer": 2, "n_head": 4, "d_inner": 64}),
    "XLM": ("xlm", _XLM | {"pad_index": 0}),
    "FlauBERT": ("flaubert", _XLM | {"pad_index": 0}),
    "BigBird": ("big_bird", _SIZES | {"block_size": 4, "num_random_blocks": 1}),
    "FNet": ("fnet", _SIZES),
    "Funnel": ("funnel", _FUNNEL | {"architectures": ["FunnelModel"]}),
    "Funnel's encoder": ("funnel", _FUNNEL | {"architectures": ["FunnelBaseModel"]}),
    "Nyströmformer": ("nystromformer", _SIZES | {"num_landmarks": 64, "segment_means_seq_len": 64}),
    "SqueezeBERT": ("squeezebert", _SIZES | {"embedding_size": 32}),
    "MobileBERT": ("mobilebert", _SIZES | {"embedding_size": 16, "intra_bottleneck_size": 16, "true_hidden_size": 16}),
    "ConvBERT": ("convbert", _SIZES | {"embedding_size": 16, "head_ratio": 2, "conv_kernel_size": 3}),
    "RemBERT": ("rembert", _SIZES | {"input_embedding_size": 16, "output_embedding_size": 16}),
    "ESM": ("esm", _SIZES | {"position_embedding_type": "rotary", "mask_token_id": 1}),
    "ModernBERT": ("modernbert", _SIZES | {"global_attn_every_n_layers": 2, "local_attention": 16}),
    "EuroBERT": ("eurobert", _SIZES),
    "Splinter": ("splinter", _SIZES),
    "YOSO": ("yoso", _SIZES | {"num_hash": 2}),
    "RoFormer": ("roformer", _SIZES),
    "ERNIE": ("ernie", _SIZES),
    "LayoutLM": ("layoutlm", _SIZES),
    "CANINE": (
        "canine",
        _SIZES | {"num_hash_buckets": 128, "num_hash_functions": 4, "local_transformer_stride": 8,
                  "downsampling_rate": 2},
    ),
    "Reformer": (
        "reformer",
        {"vocab_size": VOCABULARY_SIZE, "hidden_size": 32, "num_attention_heads": 4, "attention_head_size": 8,
         "attn_layers": ["local", "lsh"], "feed_forward_size": 64, "axial_pos_shape": [8, 8],
         "axial_pos_embds_dim": [16, 16], "max_position_embeddings": 64, "lsh_attn_chunk_length": 8,
         "local_attn_chunk_length": 8, "num_buckets": 4},
    ),
    "T5's encoder": ("t5", _T5),
    "mT5's encoder": ("mt5", _T5),
    "UMT5's encoder": ("umt5", _T5),
}  # fmt: skip
"""Kind and configuration of each."""

DECODERS: dict[str, tuple[str, dict[str, Any]]] = {
    "GPT": ("openai-gpt", _GPT),
    "GPT-2": ("gpt2", _GPT),
    "GPT-J": ("gptj", _GPT | {"rotary_dim": 4}),
    "GPT-NeoX": ("gpt_neox", _SIZES),
    "GPT-Neo": (
        "gpt_neo",
        {"vocab_size": VOCABULARY_SIZE, "hidden_size": 32, "num_layers": 2, "num_heads": 4,
         "attention_types": [[["global", "local"], 1]], "max_position_embeddings": 64},
    ),
    "OPT": (
        "opt",
        {"vocab_size": VOCABULARY_SIZE, "hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 4,
         "ffn_dim": 64, "max_position_embeddings": 64, "word_embed_proj_dim": 32},
    ),
    "BLOOM": ("bloom", {"vocab_size": VOCABULARY_SIZE, "hidden_size": 32, "n_layer": 2, "n_head": 4}),
    "Falcon": (
        "falcon",
        {"vocab_size": VOCABULARY_SIZE, "hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 4},
    ),
    "Llama": ("llama", _SIZES),
    "Mistral": ("mistral", _SIZES | {"num_key_value_heads": 4}),
    "Qwen2": ("qwen2", _SIZES | {"num_key_value_heads": 4}),
    "Gemma": ("gemma", _SIZES | {"num_key_value_heads": 4, "head_dim": 8}),
    "Mamba": ("mamba", {"vocab_size": VOCABULARY_SIZE, "hidden_size": 32, "num_hidden_layers": 2, "state_size": 4}),
}  # fmt: skip
"""Those that read from left to right."""

_PICTURES = {
    "hidden_size": 32, "num_hidden_layers": 1, "num_attention_heads": 4, "intermediate_size": 64, "image_size": 16,
    "patch_size": 8,
}  # fmt: skip

OTHERS: dict[str, tuple[str, dict[str, Any]]] = {
    "T5": ("t5", _T5),
    "BART": (
        "bart",
        {"vocab_size": VOCABULARY_SIZE, "d_model": 32, "encoder_layers": 1, "decoder_layers": 1,
         "encoder_attention_heads": 4, "decoder_attention_heads": 4, "encoder_ffn_dim": 64, "decoder_ffn_dim": 64,
         "max_position_embeddings": 64},
    ),
    "ViT": ("vit", _PICTURES),
    "CLIP": ("clip", {"text_config": _SIZES, "vision_config": _PICTURES}),
    "wav2vec 2.0": (
        "wav2vec2",
        {"hidden_size": 32, "num_hidden_layers": 1, "num_attention_heads": 4, "intermediate_size": 64,
         "conv_dim": [16], "conv_stride": [5], "conv_kernel": [10], "num_feat_extract_layers": 1,
         "num_conv_pos_embeddings": 4, "num_conv_pos_embedding_groups": 2},
    ),
    "TAPAS": ("tapas", _SIZES),
}  # fmt: skip
"""Those that take no texts alone, or are two models in one."""


def write_architecture(folder: Path, name: str) -> Path:
    """Write the model of that name, random with a fixed seed, and a tokenizer."""
    import transformers
    from transformers.utils import logging

    kind, sizes = (ENCODERS | DECODERS | OTHERS)[name]
    config = transformers.AutoConfig.for_model(kind, **sizes)
    is_half = kind.endswith("t5") and name.endswith("'s encoder")
    loader = transformers.AutoModelForTextEncoding if is_half else transformers.AutoModel
    logging.set_verbosity_error()
    logging.disable_progress_bar()
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        loader.from_config(config).save_pretrained(folder)
    if kind == "canine":
        transformers.CanineTokenizer().save_pretrained(folder)
    else:
        write_tokenizer(folder)
    return folder
