"""Writes a config.json as the Hub has them."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

WriteConfig = Callable[[dict[str, Any]], Path]

LLAMA_2_7B: dict[str, Any] = {
    "architectures": ["LlamaForCausalLM"],
    "model_type": "llama",
    "num_hidden_layers": 32,
    "hidden_size": 4096,
    "num_attention_heads": 32,
    "num_key_value_heads": 32,
    "intermediate_size": 11008,
    "vocab_size": 32000,
    "max_position_embeddings": 4096,
    "tie_word_embeddings": False,
    "torch_dtype": "float16",
}


@pytest.fixture
def llama() -> dict[str, Any]:
    """The keys of Llama-2-7B, to change at will."""
    return dict(LLAMA_2_7B)


@pytest.fixture
def write_config(tmp_path: Path) -> WriteConfig:
    """Writes a config.json in a folder of its own and returns its path."""

    def write(config: dict[str, Any]) -> Path:
        folder = tmp_path / "my-model"
        folder.mkdir(exist_ok=True)
        path = folder / "config.json"
        path.write_text(json.dumps(config), "utf-8")
        return path

    return write
