"""Tiny models of every kind that writes, reads or tags texts, with a tokenizer trained on proverbs; and such data."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file, save_file

PROVERBS = (
    "A stitch in time saves nine.", "All that glitters is not gold.", "A rolling stone gathers no moss.",
    "Birds of a feather flock together.", "Early to bed and early to rise makes a man healthy, wealthy and wise.",
    "Every cloud has a silver lining.", "Fortune favours the bold.", "Great oaks from little acorns grow.",
    "He who laughs last laughs best.", "Honesty is the best policy.", "Look before you leap.",
    "Make hay while the sun shines.", "Many hands make light work.", "Necessity is the mother of invention.",
    "No man can serve two masters.", "Out of sight, out of mind.", "Practice makes perfect.",
    "Rome was not built in a day.", "Still waters run deep.", "Strike while the iron is hot.",
    "The early bird catches the worm.", "The pen is mightier than the sword.", "Time and tide wait for no man.",
    "Too many cooks spoil the broth.", "When the cat is away the mice will play.",
    "Where there is a will there is a way.",
    "While there is life there is hope.", "You cannot make a silk purse out of a sow's ear.",
    "You may lead a horse to water, but you cannot make it drink.", "A bird in the hand is worth two in the bush.",
    "Actions speak louder than words.", "An apple a day keeps the doctor away.",
)  # fmt: skip
"""English proverbs, all older than any copyright."""

SPECIAL = ("<pad>", "<unk>", "<s>", "</s>", "<mask>")
"""Special tokens of the tokenizer, in the order of their numbers."""
VOCABULARY_SIZE = 200

_SIZES = {
    "vocab_size": VOCABULARY_SIZE, "hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 4,
    "intermediate_size": 64, "max_position_embeddings": 64, "pad_token_id": 0, "bos_token_id": 2, "eos_token_id": 3,
}  # fmt: skip
_T5 = {
    "vocab_size": VOCABULARY_SIZE, "d_model": 32, "d_kv": 8, "d_ff": 64, "num_layers": 2, "num_heads": 4,
    "pad_token_id": 0, "eos_token_id": 3, "decoder_start_token_id": 0,
}  # fmt: skip
KINDS: dict[str, tuple[str, str, dict[str, Any]]] = {
    "bert": ("AutoModelForMaskedLM", "bert", _SIZES),
    "headless bert": ("AutoModel", "bert", _SIZES),
    "roberta": ("AutoModelForMaskedLM", "roberta", _SIZES | {"max_position_embeddings": 66}),
    "gpt2": (
        "AutoModelForCausalLM", "gpt2",
        {"vocab_size": VOCABULARY_SIZE, "n_embd": 32, "n_layer": 2, "n_head": 4, "n_positions": 64, "bos_token_id": 2,
         "eos_token_id": 3},
    ),
    "llama": ("AutoModelForCausalLM", "llama", _SIZES | {"tie_word_embeddings": False}),
    "t5": ("AutoModelForSeq2SeqLM", "t5", _T5),
    "t5 v1.1": ("AutoModelForSeq2SeqLM", "t5", _T5 | {"tie_word_embeddings": False, "feed_forward_proj": "gated-gelu"}),
    "bart": (
        "AutoModelForSeq2SeqLM", "bart",
        {"vocab_size": VOCABULARY_SIZE, "d_model": 32, "encoder_layers": 1, "decoder_layers": 1,
         "encoder_attention_heads": 4, "decoder_attention_heads": 4, "encoder_ffn_dim": 64, "decoder_ffn_dim": 64,
         "max_position_embeddings": 64, "pad_token_id": 0, "bos_token_id": 2, "eos_token_id": 3,
         "decoder_start_token_id": 3, "forced_eos_token_id": 3},
    ),
}  # fmt: skip
"""Class, architecture and configuration of each."""


def write_text_model(folder: Path, kind: str, *, seed: int = 0, chat_template: str | None = None) -> Path:
    """Write the model of that kind, random by the seed, with a tokenizer trained on the proverbs."""
    import transformers
    from transformers.utils import logging

    loader, architecture, sizes = KINDS[kind]
    logging.set_verbosity_error()
    logging.disable_progress_bar()
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        config = transformers.AutoConfig.for_model(architecture, **sizes)
        getattr(transformers, loader).from_config(config).save_pretrained(folder)
        if kind == "t5 v1.1":  # its files have a head of their own, which transformers itself would not write any more
            weights = load_file(folder / "model.safetensors")
            head = torch.randn(VOCABULARY_SIZE, 32) / 8
            save_file(weights | {"lm_head.weight": head}, folder / "model.safetensors", metadata={"format": "pt"})
    write_text_tokenizer(folder, ends_in="" if kind in ("gpt2", "llama") else "</s>", chat_template=chat_template,
                         starts_with="<s>" if "bert" in kind else "")  # fmt: skip
    return folder


def write_text_tokenizer(
    folder: Path, *, starts_with: str = "", ends_in: str = "", chat_template: str | None = None
) -> None:
    """Write a byte-level BPE as GPT-2 has it, trained on the proverbs; by default it adds no special tokens."""
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers, processors, trainers

    tokenizer = Tokenizer(models.BPE(unk_token="<unk>"))
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    letters = sorted({chr(number) for number in range(32, 127)})
    trainer = trainers.BpeTrainer(
        vocab_size=VOCABULARY_SIZE, special_tokens=list(SPECIAL), initial_alphabet=["Ġ", "Ċ", *letters],
        show_progress=False,
    )  # fmt: skip
    tokenizer.train_from_iterator(PROVERBS, trainer)
    if starts_with or ends_in:
        numbers = [(token, tokenizer.token_to_id(token)) for token in (starts_with, ends_in) if token]
        tokenizer.post_processor = processors.TemplateProcessing(
            single=" ".join(filter(None, (starts_with, "$A", ends_in))),
            pair=" ".join(filter(None, (starts_with, "$A", ends_in, "$B", ends_in))),
            special_tokens=numbers,
        )  # fmt: skip
    tokenizer.save(str(folder / "tokenizer.json"))
    config = {
        "tokenizer_class": "PreTrainedTokenizerFast", "model_max_length": 64, "pad_token": "<pad>",
        "unk_token": "<unk>", "bos_token": "<s>", "eos_token": "</s>", "mask_token": "<mask>",
        "model_input_names": ["input_ids", "attention_mask"],
    }  # fmt: skip
    if starts_with:
        config |= {"cls_token": "<s>", "sep_token": "</s>"}
    if chat_template is not None:
        config["chat_template"] = chat_template
    (folder / "tokenizer_config.json").write_text(json.dumps(config))


def write_json_lines(path: Path, rows: list[dict[str, Any]]) -> Path:
    """Write rows as JSON lines."""
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return path


def rows_of(task: str) -> list[dict[str, Any]]:
    """Return private data of a task, made of the proverbs: a tiny model learns something of it."""
    made = {
        "token-classification": _tagged, "question-answering": _asked, "instructions": _chat,
        "text2text-generation": lambda number: {"source": PROVERBS[number], "target": PROVERBS[number].split()[0]},
        "multi-label-classification": _labelled,
        "regression": lambda number: {"text": PROVERBS[number], "score": float(len(PROVERBS[number].split()))},
    }  # fmt: skip
    make = made.get(task, lambda number: {"text": PROVERBS[number]})
    return [make(number) for number in range(len(PROVERBS))]


def _tagged(number: int) -> dict[str, Any]:
    words = PROVERBS[number].replace(".", " .").replace(",", " ,").split()
    return {"tokens": words, "ner_tags": ["B-START" if word[0].isupper() else "O" for word in words]}


def _labelled(number: int) -> dict[str, Any]:
    text = PROVERBS[number]
    return {
        "text": text,
        "labels": [name for name, word in (("the", "the "), ("comma", ","), ("a", " a ")) if word in text],
    }


def _asked(number: int) -> dict[str, Any]:
    words = PROVERBS[number].split()
    answers = {"text": [words[1]], "answer_start": [len(words[0]) + 1]} if number % 4 else {"text": []}
    return {"question": f"What comes after {words[0]}?", "context": PROVERBS[number], "answers": answers}


def _chat(number: int) -> dict[str, Any]:
    contents = ("One, please.", PROVERBS[number], "Another.", PROVERBS[number - 1])
    roles = ("user", "assistant", "user", "assistant")
    return {"messages": [{"role": r, "content": c} for r, c in zip(roles, contents, strict=True)]}
