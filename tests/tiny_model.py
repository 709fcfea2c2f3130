"""A complete Hugging Face model folder in milliseconds: a random BERT of 30,000 numbers with a working tokenizer."""

import json
import string
from pathlib import Path

import torch

_SPECIAL = ("[PAD]", "[UNK]", "[CLS]", "[SEP]")
_WORDS = ("good", "great", "fine", "lovely", "bad", "awful", "poor", "dull", "the", "a", "film", "was", "and", "very")


def write_tiny_model(folder: Path, *, seed: int = 0, hidden_size: int = 32, num_layers: int = 2) -> Path:
    """Write the model into `folder` and return it; another seed gives other weights with the same schema."""
    from transformers import BertConfig, BertModel
    from transformers.utils import logging

    vocab = _vocab()
    config = BertConfig(
        vocab_size=len(vocab),
        hidden_size=hidden_size,
        num_hidden_layers=num_layers,
        num_attention_heads=4,
        intermediate_size=2 * hidden_size,
        max_position_embeddings=64,
        pad_token_id=vocab["[PAD]"],
    )
    logging.disable_progress_bar()
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        BertModel(config).save_pretrained(folder)
    write_tokenizer(folder)
    return folder


def _vocab() -> dict[str, int]:
    """Some words, and every letter and digit, so that no ASCII word is unknown."""
    letters = string.ascii_lowercase + string.digits
    pieces = (*_SPECIAL, *_WORDS, *letters, *(f"##{letter}" for letter in letters), *string.punctuation)
    return {piece: index for index, piece in enumerate(dict.fromkeys(pieces))}


VOCABULARY_SIZE = len(_vocab())


def write_tokenizer(folder: Path) -> None:
    """Write the tokenizer into a model's folder."""
    from tokenizers import Tokenizer, models, normalizers, pre_tokenizers, processors

    vocab = _vocab()
    tokenizer = Tokenizer(models.WordPiece(vocab, unk_token="[UNK]"))
    tokenizer.normalizer = normalizers.BertNormalizer()
    tokenizer.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    tokenizer.post_processor = processors.TemplateProcessing(
        single="[CLS] $A [SEP]",
        pair="[CLS] $A [SEP] $B:1 [SEP]:1",
        special_tokens=[("[CLS]", vocab["[CLS]"]), ("[SEP]", vocab["[SEP]"])],
    )
    tokenizer.save(str(folder / "tokenizer.json"))
    config = {
        "tokenizer_class": "PreTrainedTokenizerFast",
        "model_max_length": 64,
        "model_input_names": ["input_ids", "token_type_ids", "attention_mask"],
        "pad_token": "[PAD]",
        "unk_token": "[UNK]",
        "cls_token": "[CLS]",
        "sep_token": "[SEP]",
    }
    (folder / "tokenizer_config.json").write_text(json.dumps(config))
