"""Loads configs/models into frozen model cards, and finds the card that a name stands for."""

from __future__ import annotations

import functools
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import cast

from llm_fleet.csv_table import Row, read_table
from llm_fleet.documents import CONFIGS
from llm_fleet.errors import InputError, Problem, unknown_choice
from llm_fleet.models.card import PRECISIONS, AttentionKind, Checkpoint, ModelCard

FOLDER = CONFIGS / "models"
ATTENTION_KINDS = ("mha", "gqa", "mqa", "mla", "hybrid")
FORMATS = ("safetensors16", "safetensors32", "w8a8", "w8a16", "w4a16", "awq", "gptq", "fp8", "mxfp4", "nvfp4")
NATIVE_FORMATS = {
    **{"fp32": "safetensors32", "fp16": "safetensors16", "bf16": "safetensors16", "fp8": "fp8"},
    **{"int8": "w8a8", "int4": "w4a16", "mxfp4": "mxfp4", "nvfp4": "nvfp4"},
}
"""How the weights of the model's own repository are stored, by native precision."""

MODEL_COLUMNS = (
    *("model", "family", "params_total_billion", "params_active_billion", "layers", "hidden_size", "attention_heads"),
    *("kv_heads", "head_dim", "intermediate_size", "vocab_size", "tie_embeddings", "max_context_tokens"),
    *("attention_kind", "sliding_window_tokens", "sliding_window_layers_fraction", "mla_kv_rank", "mla_rope_dim"),
    *("mla_query_rank", "mla_value_dim", "moe_experts", "moe_active_experts", "moe_intermediate_size"),
    *("shared_experts", "shared_expert_intermediate_size", "dense_layers", "moe_layers", "moe_hidden_size"),
    *("mlp_matrices", "kv_layers", "kv_elements_per_token", "native_precision", "native_dtype", "licence", "gated"),
    *("source", "notes"),
)
CHECKPOINT_COLUMNS = ("model", "precision", "format", "repository", "gated", "source")
ALIAS_COLUMNS = ("alias", "model", "precision")


@dataclass(frozen=True, slots=True)
class ResolvedModel:
    """What a name stands for: the card, the precision that the name implies, and the repository that it names.

    `repository` is the name as the library writes it where it is a Hub repository, else the card's own; empty for a
    config.json on disk, whose weights have no known place.
    """

    card: ModelCard
    precision: str | None
    repository: str


@dataclass(frozen=True, slots=True)
class ModelLibrary:
    """The model cards by name, and every name that leads to one."""

    cards: Mapping[str, ModelCard]
    names: Mapping[str, ResolvedModel]
    """By folded name: models, checkpoints and aliases."""
    spellings: tuple[str, ...]
    """The same names as they are written, sorted."""

    def resolve(self, name: str, where: str) -> ResolvedModel:
        """The model that `name` stands for: a model, checkpoint or alias in any case, or a path to a config.json.

        Raises:
            InputError: no such name (with the nearest one), or a config.json that is no model.
        """
        found = self.names.get(name.strip().casefold())
        if found:
            return found
        path = hub_config_path(name)
        if path:
            from llm_fleet.models.hub_config import card_from_hub_config

            return ResolvedModel(card_from_hub_config(path), None, "")
        raise InputError(unknown_choice(where, "model", name, self.spellings))


def hub_config_path(name: str) -> Path | None:
    """The config.json that a name points at: a file, a folder that holds one, or any path that is meant as one."""
    path = Path(name)
    try:
        if path.is_dir() and (name.startswith((".", "/")) or (path / "config.json").is_file()):
            return path / "config.json"
        return path if name.endswith(".json") or path.is_file() else None
    except (OSError, ValueError):  # a name too long, or with a zero byte, for a path
        return None


def load_models(folder: Path | None = None) -> ModelLibrary:
    """The library in `folder`, by default the one that comes with the kit (read once per process).

    Raises:
        InputError: every problem of every file, each with file, line and column.
    """
    return _default_library() if folder is None else _load(folder)


@functools.cache
def _default_library() -> ModelLibrary:
    return _load(FOLDER)


def _load(folder: Path) -> ModelLibrary:
    problems: list[Problem] = []
    rows = list(read_table(folder / "models.csv", MODEL_COLUMNS, problems))
    known = {row.text("model") for row in rows}
    checkpoints = _checkpoints(folder, problems, known)
    cards: dict[str, ModelCard] = {}
    for row in rows:
        if row.text("model") in cards:
            row.report("model", "stands twice")
        cards[row.text("model")] = _card(row, checkpoints.get(row.text("model"), {}))
    aliases = list(read_table(folder / "aliases.csv", ALIAS_COLUMNS, problems))
    names = _names(cards, aliases)
    if problems:
        raise InputError(problems)
    spellings = sorted({*cards, *(c.repository for card in cards.values() for c in card.checkpoints.values())})
    spellings += [row.text("alias") for row in aliases]
    return ModelLibrary(cards, names, tuple(sorted(spellings)))


def _checkpoints(folder: Path, problems: list[Problem], models: Collection[str]) -> dict[str, dict[str, Checkpoint]]:
    found: dict[str, dict[str, Checkpoint]] = {}
    for row in read_table(folder / "checkpoints.csv", CHECKPOINT_COLUMNS, problems):
        row.optional_flag("gated")
        checkpoint = Checkpoint(
            precision=row.choice("precision", PRECISIONS, "precision"),
            repository=row.name("repository"),
            format=row.choice("format", FORMATS, "format"),
            source=row.name("source"),
        )
        of_model = found.setdefault(row.choice("model", models, "model"), {})
        if checkpoint.precision in of_model:
            row.report("precision", f"stands twice for {row.text('model')}")
        of_model[checkpoint.precision] = checkpoint
    return found


def _card(row: Row, checkpoints: Mapping[str, Checkpoint]) -> ModelCard:
    native = row.choice("native_precision", PRECISIONS, "precision")
    own = Checkpoint(native, row.name("model"), NATIVE_FORMATS.get(native, ""), source=row.name("source"))
    total = row.number("params_total_billion")
    return ModelCard(
        name=row.text("model"),
        family=row.name("family"),
        params_total_billion=total,
        params_active_billion=row.optional_number("params_active_billion") or total,
        layers=row.integer("layers", at_least=1),
        hidden_size=row.integer("hidden_size", at_least=1),
        attention_heads=row.integer("attention_heads", at_least=1),
        kv_heads=row.integer("kv_heads", at_least=1),
        head_dim=row.integer("head_dim", at_least=1),
        intermediate_size=row.optional_integer("intermediate_size", at_least=1),
        vocab_size=row.integer("vocab_size", at_least=1),
        tie_embeddings=row.flag("tie_embeddings"),
        max_context_tokens=row.integer("max_context_tokens", at_least=1),
        attention_kind=cast(AttentionKind, row.choice("attention_kind", ATTENTION_KINDS)),
        sliding_window_tokens=row.optional_integer("sliding_window_tokens", at_least=1),
        sliding_window_layers_fraction=row.optional_number("sliding_window_layers_fraction") or 0.0,
        mla_kv_rank=row.optional_integer("mla_kv_rank", at_least=1),
        mla_rope_dim=row.optional_integer("mla_rope_dim", at_least=1),
        moe_experts=row.optional_integer("moe_experts", at_least=1),
        moe_active_experts=row.optional_integer("moe_active_experts", at_least=1),
        kv_layers=row.integer("kv_layers"),
        kv_elements_per_token=row.integer("kv_elements_per_token"),
        native_precision=native,
        native_dtype=row.name("native_dtype"),
        licence=row.text("licence"),
        gated=row.optional_flag("gated"),
        checkpoints={native: own, **{p: c for p, c in checkpoints.items() if p != native}},
        source=row.text("source"),
        notes=row.text("notes"),
        mla_query_rank=row.optional_integer("mla_query_rank", at_least=1),
        mla_value_dim=row.optional_integer("mla_value_dim", at_least=1),
        moe_intermediate_size=row.optional_integer("moe_intermediate_size", at_least=1),
        moe_hidden_size=row.optional_integer("moe_hidden_size", at_least=1),
        moe_layers=row.optional_integer("moe_layers", at_least=1),
        dense_layers=row.optional_integer("dense_layers"),
        shared_expert_size=_shared_expert_size(row),
        mlp_matrices=_mlp_matrices(row),
    )


def _shared_expert_size(row: Row) -> int:
    """Width of all shared experts of a layer together."""
    count = row.optional_integer("shared_experts") or 0
    width = row.optional_integer("shared_expert_intermediate_size", at_least=1)
    if count and not width:
        row.report("shared_expert_intermediate_size", "is empty beside shared experts", "their width")
    return count * (width or 0)


def _mlp_matrices(row: Row) -> int:
    """3 for a gated MLP (the usual, an empty cell), 2 for a plain one."""
    matrices = row.optional_integer("mlp_matrices", at_least=2) or 3
    if matrices > 3:
        row.report("mlp_matrices", "is no MLP", "2 without a gate, 3 or empty with one")
    return matrices


def _names(cards: Mapping[str, ModelCard], aliases: list[Row]) -> dict[str, ResolvedModel]:
    """Every folded name. The model's own name and its aliases without a precision leave the precision open."""
    names = {name.casefold(): ResolvedModel(card, None, name) for name, card in cards.items()}
    for card in cards.values():
        for checkpoint in card.checkpoints.values():
            resolved = ResolvedModel(card, checkpoint.precision, checkpoint.repository)
            names.setdefault(checkpoint.repository.casefold(), resolved)
    for row in aliases:
        alias, model = row.name("alias"), row.choice("model", cards, "model")
        precision = row.choice("precision", (*PRECISIONS, ""), "precision") or None
        if alias.casefold() in names:
            row.report("alias", "already stands for a model")
        elif model in cards:
            repository = alias if "/" in alias else model
            names[alias.casefold()] = ResolvedModel(cards[model], precision, repository)
    return names
