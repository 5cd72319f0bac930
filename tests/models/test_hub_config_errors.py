"""A config.json that is no model gets one answer with every wrong key, never a traceback."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from llm_fleet.errors import InputError, Problem
from llm_fleet.models.hub_config import card_from_hub_config

WriteConfig = Callable[[dict[str, Any]], Path]


def problems_of(path: Path) -> tuple[Problem, ...]:
    with pytest.raises(InputError) as caught:
        card_from_hub_config(path)
    return caught.value.problems


def test_all_wrong_keys_come_in_one_answer_with_their_paths(write_config: WriteConfig, llama: dict[str, Any]) -> None:
    del llama["hidden_size"], llama["torch_dtype"]
    llama |= {"num_hidden_layers": -32, "vocab_size": "many", "num_key_value_heads": 5}
    found = {problem.where.split()[-1]: problem.message for problem in problems_of(write_config(llama))}
    assert found == {
        "num_hidden_layers": "is wrong",
        "hidden_size": "is missing (or n_embd, d_model)",
        "num_key_value_heads": "does not divide the attention heads",
        "vocab_size": "is wrong",
        "torch_dtype": "is missing (or dtype)",
    }


@pytest.mark.parametrize(
    ("change", "where", "message"),
    [
        ({"architectures": ["BertForMaskedLM"], "model_type": "bert"}, "architectures", "no model that can be served"),
        ({"is_encoder_decoder": True, "model_type": "t5"}, "is_encoder_decoder", "encoder-decoder"),
        ({"model_type": None}, "model_type", "is missing"),
        ({"model_type": "lama"}, "model_type", "unknown model_type"),
        ({"model_type": ["llama"]}, "model_type", "unknown model_type"),
        ({"hidden_size": 0}, "hidden_size", "is wrong"),
        ({"hidden_size": 4097}, "hidden_size", "no multiple of the attention heads"),
        ({"hidden_size": 1e30}, "hidden_size", "is wrong"),
        ({"hidden_size": 10**40}, "hidden_size", "is wrong"),
        ({"hidden_size": True}, "hidden_size", "is wrong"),
        ({"hidden_size": 2**29, "vocab_size": 10**9}, "hidden_size", "billion parameters"),
        ({"num_hidden_layers": 10**8}, "num_hidden_layers", "is wrong"),
        ({"max_position_embeddings": None}, "max_position_embeddings", "is missing"),
        ({"torch_dtype": "float8"}, "torch_dtype", "is not one that is served"),
        ({"torch_dtype": ["float16"]}, "torch_dtype", "is not one that is served"),
        ({"tie_word_embeddings": "no"}, "tie_word_embeddings", "is wrong"),
        ({"num_local_experts": 8}, "num_experts_per_tok", "is missing"),
        ({"num_local_experts": 8, "num_experts_per_tok": 9}, "num_experts_per_tok", "more than the experts"),
        ({"layer_types": ["full_attention"]}, "layer_types", "is wrong"),
        ({"kv_lora_rank": 512}, "qk_rope_head_dim", "is missing"),
        ({"quantization_config": []}, "quantization_config", "must be a mapping"),
        ({"quantization_config": {"quant_method": "bitsandbytes"}}, "quant_method", "not one that is served"),
        ({"quantization_config": {"quant_method": "awq"}}, "quantization_config", "how many bits"),
    ],
)
def test_a_wrong_key_is_named(
    write_config: WriteConfig, llama: dict[str, Any], change: dict[str, Any], where: str, message: str
) -> None:
    problems = problems_of(write_config({**llama, **change}))
    assert any(problem.where.endswith(where) and message in problem.message for problem in problems), problems


def test_a_key_of_a_nested_decoder_is_named_by_its_whole_path(write_config: WriteConfig, llama: dict[str, Any]) -> None:
    del llama["vocab_size"]
    config = {"architectures": ["LlavaForConditionalGeneration"], "model_type": "llava", "text_config": llama}
    [problem] = problems_of(write_config(config))
    assert problem.where.endswith("config.json text_config.vocab_size")


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "is not valid JSON"),
        ('{"model_type": "llama",', "is not valid JSON"),
        ("[1, 2]", "must hold a mapping"),
        ("null", "must hold a mapping"),
        ("{}", "is missing"),
        ('{"hidden_size": ' + "9" * 5000 + "}", "is not valid JSON"),
        ("[" * 100_000, "is not valid JSON"),
        (json.dumps({"model_type": "x" * 100_000}), "unknown model_type"),
    ],
)
def test_text_that_is_no_config_is_a_problem(tmp_path: Path, text: str, message: str) -> None:
    path = tmp_path / "config.json"
    path.write_text(text, "utf-8")
    [problem] = problems_of(path)
    assert message in problem.message
    assert len(str(problem)) < 600


def test_bytes_that_are_no_text_are_a_problem(tmp_path: Path) -> None:
    path = tmp_path / "config.json"
    path.write_bytes(b"\xff\xfe\x00")
    [problem] = problems_of(path)
    assert "is not UTF-8" in problem.message


def test_an_empty_folder_has_no_config(tmp_path: Path) -> None:
    [problem] = problems_of(tmp_path)
    assert "cannot be read" in problem.message
