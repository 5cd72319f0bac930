"""Names lead to cards, and a wrong file is answered with its line."""

import json
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from llm_fleet.csv_table import read_table
from llm_fleet.errors import InputError
from llm_fleet.models import load_models
from llm_fleet.models.load import CHECKPOINT_COLUMNS, FOLDER, MODEL_COLUMNS

WriteConfig = Callable[[dict[str, Any]], Path]


@pytest.mark.parametrize(
    ("name", "card", "precision", "repository"),
    [
        ("meta-llama/Llama-2-7b-hf", "meta-llama/Llama-2-7b-hf", None, "meta-llama/Llama-2-7b-hf"),
        ("meta-llama/llama-2-7b-CHAT-hf", "meta-llama/Llama-2-7b-hf", None, "meta-llama/Llama-2-7b-chat-hf"),
        ("Llama-2-13B", "meta-llama/Llama-2-13b-hf", None, "meta-llama/Llama-2-13b-hf"),
        ("qwen/qwen3-32b-fp8", "Qwen/Qwen3-32B", "fp8", "Qwen/Qwen3-32B-FP8"),
        ("Qwen/Qwen3-32B-AWQ", "Qwen/Qwen3-32B", "int4", "Qwen/Qwen3-32B-AWQ"),
        ("meta-llama/Llama-3.1-8B-Instruct", "meta-llama/Llama-3.1-8B", None, "meta-llama/Llama-3.1-8B-Instruct"),
        ("TheBloke/Llama-2-7B-Chat-GPTQ", "meta-llama/Llama-2-7b-hf", "int4", "TheBloke/Llama-2-7B-Chat-GPTQ"),
        ("gpt-oss-120b", "openai/gpt-oss-120b", None, "openai/gpt-oss-120b"),
    ],
)
def test_a_name_leads_to_its_card_in_any_case(name: str, card: str, precision: str | None, repository: str) -> None:
    found = load_models().resolve(name, "-c model")
    assert (found.card.name, found.precision, found.repository) == (card, precision, repository)


def test_an_unknown_name_is_answered_with_the_nearest() -> None:
    with pytest.raises(InputError) as caught:
        load_models().resolve("Qwen/Qwen3-33B", "-c model=Qwen/Qwen3-33B")
    [problem] = caught.value.problems
    assert problem.where == "-c model=Qwen/Qwen3-33B"
    assert problem.nearest == "Qwen/Qwen3-32B"


@pytest.mark.parametrize("name", ["", "x" * 5000, "a\0b", "../nowhere/config", "~"])
def test_a_name_that_is_no_name_is_a_problem_and_not_a_traceback(name: str) -> None:
    with pytest.raises(InputError):
        load_models().resolve(name, "-c model")


@pytest.mark.parametrize("as_folder", [True, False])
def test_a_path_to_a_config_json_or_its_folder_is_a_model(
    write_config: WriteConfig, llama: dict[str, Any], as_folder: bool
) -> None:
    path = write_config(llama)
    found = load_models().resolve(str(path.parent if as_folder else path), "-c model")
    assert (found.card.name, found.precision, found.repository) == ("my-model", None, "")


def test_a_path_that_is_not_there_is_named() -> None:
    with pytest.raises(InputError, match=r"nowhere/config\.json: cannot be read"):
        load_models().resolve("nowhere/config.json", "-c model")


def test_the_articles_models_have_the_checkpoints_that_stand_for_int8_and_int4() -> None:
    card = load_models().cards["meta-llama/Llama-2-7b-hf"]
    stored = {precision: (c.repository, c.format) for precision, c in card.checkpoints.items()}
    assert stored == {
        "fp16": ("meta-llama/Llama-2-7b-hf", "safetensors16"),
        "int8": ("RedHatAI/Llama-2-7b-chat-quantized.w8a8", "w8a8"),
        "int4": ("TheBloke/Llama-2-7B-AWQ", "awq"),
    }


def test_every_card_has_its_own_weights_in_its_native_precision() -> None:
    for card in load_models().cards.values():
        assert card.checkpoints[card.native_precision].repository == card.name


def test_active_parameters_are_fewer_only_where_there_are_experts() -> None:
    for card in load_models().cards.values():
        assert card.mixture_of_experts == (card.params_active_billion < card.params_total_billion), card.name


def test_the_cache_of_every_card_follows_from_its_heads_and_caching_layers() -> None:
    """Apart from compressed caches and layers with heads of their own, which the notes name."""
    own_heads = {"gemma4", "deepseek-v4"}
    for card in load_models().cards.values():
        if card.attention_kind == "mla":
            expected = card.layers * ((card.mla_kv_rank or 0) + (card.mla_rope_dim or 0))
        else:
            expected = 2 * card.kv_layers * card.kv_heads * card.head_dim
        assert card.kv_elements_per_token == expected or card.family in own_heads, card.name


def test_every_source_key_stands_for_a_source() -> None:
    known = {line.partition(",")[0] for line in (FOLDER / "sources.csv").read_text("utf-8").splitlines()[1:]}
    for name, columns in (("models.csv", MODEL_COLUMNS), ("checkpoints.csv", CHECKPOINT_COLUMNS)):
        for row in read_table(FOLDER / name, columns, []):
            assert set(row.names("source")) <= known, row.where("source")


@pytest.mark.parametrize(
    ("name", "old", "new", "message"),
    [
        ("models.csv", "4096,mha", "4096,mhaa", "unknown word"),
        ("models.csv", ",262144,fp16,", ",262144,fp17,", "unknown precision"),
        ("models.csv", "llama2,6.738416", "llama2,many", "is not a number"),
        ("models.csv", ",2,32,4096,", ",4,32,4096,", "is no MLP"),
        ("models.csv", ",1,8192,0,", ",1,,0,", "is empty beside shared experts"),
        ("checkpoints.csv", "meta-llama/Llama-2-7b-hf,int8", "meta-llama/Llama-2-8b-hf,int8", "unknown model"),
        ("checkpoints.csv", "meta-llama/Llama-2-7b-hf,int8", "meta-llama/Llama-2-7b-hf,int4", "stands twice"),
        ("aliases.csv", "meta-llama/Llama-2-7b-chat-hf,", "meta-llama/LLAMA-2-7b-hf,", "already stands for a model"),
        ("aliases.csv", "chat-hf,meta-llama/Llama-2-7b-hf,", "chat-hf,meta-llama/Llama-2-8b-hf,", "unknown model"),
    ],
)
def test_a_wrong_cell_is_named_by_file_line_and_column(
    tmp_path: Path, name: str, old: str, new: str, message: str
) -> None:
    folder = Path(shutil.copytree(FOLDER, tmp_path / "models"))
    text = (folder / name).read_text("utf-8")
    assert old in text
    (folder / name).write_text(text.replace(old, new, 1), "utf-8")
    with pytest.raises(InputError) as caught:
        load_models(folder)
    assert any(message in p.message and f"{name}:" in p.where for p in caught.value.problems), caught.value


def test_looking_up_a_model_imports_nothing_heavy() -> None:
    code = (
        "import json, sys, llm_fleet.models as m; m.load_models().resolve('Qwen/Qwen3-32B', 'x');"
        "print(json.dumps([n for n in ('pydantic', 'boto3', 'aws_cdk', 'jinja2', 'torch') if n in sys.modules]))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert json.loads(done.stdout) == []
