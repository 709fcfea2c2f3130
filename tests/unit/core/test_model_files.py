"""Which files make a model: the names of model libraries, and nothing that is private or executable."""

from fnmatch import fnmatchcase

from coldfuse.core.model_files import HUB_PATTERNS, is_model_file, is_tokenizer_file, may_be_released

TOKENIZERS = [
    "tokenizer.json", "tokenizer_config.json", "tokenizer.model", "tiktoken.model", "spm.model", "spiece.model",
    "spm_char.model", "sentencepiece.model", "sentencepiece.bpe.model", "source.spm", "target.spm", "qwen.tiktoken",
    "tekken.json", "bpe.codes", "dict.txt", "vocab.txt", "vocab.json", "vocab-src.json", "target_vocab.json",
    "entity_vocab.json", "merges.txt", "prophetnet.tokenizer", "byte_maps.json", "emoji.json", "normalizer.json",
    "word_shape.json", "word_pronunciation.json",
]  # fmt: skip
OTHERS = [
    "config.json", "generation_config.json", "preprocessor_config.json", "model_index.json", "scheduler_config.json",
    "processor_config.json", "video_preprocessor_config.json", "audio_tokenizer_config.json",
    "special_tokens_map.json", "added_tokens.json", "chat_template.json", "chat_template.jinja",
    "additional_chat_templates/tools.jinja", "modules.json", "router_config.json",
    "config_sentence_transformers.json", "sentence_bert_config.json",
]  # fmt: skip
PRIVATE = [
    "notes.txt", "README.md", "data.json", "trainer_state.json", "training_args.bin", "optimizer.pt",
    "pytorch_model.bin", "vocab.pkl", "modeling.py", "tokenization_qwen.py", "tokenizer", "vocab", ".hidden.json",
    ".env.model", "data/config.json", "data/vocab.txt", "additional_chat_templates/notes.txt",
    "additional_chat_templates/.tools.jinja", "a/1_Pooling/config.json", "tokenizer.json/x",
    "tokenizer_config.json.bak", "Tokenizer.JSON", "1_Pooling/config.json", "adapter_config.json",
]  # fmt: skip


def test_what_is_a_models_is_asked_from_the_hub_published_and_taken() -> None:
    names = [*TOKENIZERS, *OTHERS]
    assert [name for name in names if is_model_file(name) and may_be_released(name)] == names
    assert [name for name in names if any(fnmatchcase(name, pattern) for pattern in HUB_PATTERNS)] == names
    assert [name for name in names if is_tokenizer_file(name)] == TOKENIZERS


def test_nothing_else_is_published() -> None:
    assert [name for name in PRIVATE if is_model_file(name) or is_tokenizer_file(name)] == []


def test_code_pickles_and_hidden_files_are_taken_from_nobody() -> None:
    names = ("modeling.py", "pytorch_model.bin", "vocab.pkl", "x.so", "tokenizer", "json", ".x.json", "a/.b/x.json")
    assert [name for name in names if may_be_released(name)] == []
    assert may_be_released("model-00001-of-00002.safetensors")
