"""A WordPiece vocabulary that is learnt of texts, and follows from them alone.

The trainer of `tokenizers` breaks ties by the numbers of tokens, and numbers the letters inside of words in an order
that is another in each process. Here they have their numbers before it begins, so that the same texts give the same
vocabulary.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any

SPECIAL = ("[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]")
"""Special tokens, by number."""
_NAMES = ("pad_token", "unk_token", "cls_token", "sep_token", "mask_token")
_MOST_LETTERS = 500
"""Letters that have tokens, the most frequent ones; a word with another one is unknown."""


def write_tokenizer(folder: Path, texts: Sequence[str], *, size: int, longest: int) -> int:
    """Write a tokenizer, as BERT's, into a model's folder, and return the number of its tokens.

    Args:
        folder: The folder, which is made.
        texts: What the vocabulary is learnt of.
        size: Tokens, at most, beyond the letters.
        longest: Tokens of a text that its model reads.
    """
    from tokenizers import processors
    from transformers import PreTrainedTokenizerFast

    vocabulary = learn_vocabulary(texts, size=size)
    tokenizer = _tokenizer(vocabulary)
    tokenizer.post_processor = processors.TemplateProcessing(
        single="[CLS] $A [SEP]", pair="[CLS] $A [SEP] $B [SEP]",
        special_tokens=[(token, vocabulary[token]) for token in ("[CLS]", "[SEP]")],
    )  # fmt: skip
    kind: Any = PreTrainedTokenizerFast  # untyped
    kind(
        tokenizer_object=tokenizer, model_max_length=longest,
        model_input_names=["input_ids", "attention_mask"],
        **dict(zip(_NAMES, SPECIAL, strict=True)),
    ).save_pretrained(folder)  # fmt: skip
    return len(vocabulary)


def learn_vocabulary(texts: Sequence[str], *, size: int) -> dict[str, int]:
    """Return tokens with their numbers: special ones, and what is learnt by WordPiece.

    Args:
        texts: What is learnt of.
        size: Tokens, at most.
    """
    from tokenizers import trainers

    learner = _tokenizer({token: number for number, token in enumerate(SPECIAL)})
    plain = [learner.normalizer.normalize_str(text) for text in texts]
    counts = Counter(letter for text in plain for letter in text if not letter.isspace())
    letters = sorted(sorted(counts), key=counts.__getitem__, reverse=True)[:_MOST_LETTERS]
    kept = {*letters, " "}
    known = ("".join(letter if letter in kept else " " for letter in text) for text in plain)
    inside = sorted(f"##{letter}" for letter in letters)
    trainer = trainers.WordPieceTrainer(
        vocab_size=size, special_tokens=[*SPECIAL, *inside], initial_alphabet=sorted(letters), show_progress=False
    )
    learner.train_from_iterator(known, trainer)
    learnt = sorted(set(learner.get_vocab()) - set(SPECIAL))
    return {token: number for number, token in enumerate([*SPECIAL, *learnt])}


def _tokenizer(vocabulary: dict[str, int]) -> Any:  # tokenizers is untyped
    from tokenizers import Tokenizer, models, normalizers, pre_tokenizers

    tokenizer = Tokenizer(models.WordPiece(vocabulary, unk_token="[UNK]"))  # noqa: S106 - a token of a text
    tokenizer.normalizer = normalizers.BertNormalizer(lowercase=True)
    tokenizer.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    return tokenizer
