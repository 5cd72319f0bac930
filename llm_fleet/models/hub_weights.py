"""Number format of the weights, from torch_dtype and quantization_config of a config.json."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, cast

from llm_fleet.models.hub_keys import HubKeys, read_hub_keys

PLAIN = {"float16": "fp16", "bfloat16": "bf16", "float32": "fp32"}
METHODS = ("awq", "compressed-tensors", "fbgemm_fp8", "fp8", "gptq", "modelopt", "modelopt_fp4", "mxfp4")


@dataclass(frozen=True, slots=True)
class Weights:
    """How the weights are stored: precision as in card.PRECISIONS, dtype in full, checkpoint format."""

    precision: str
    dtype: str
    format: str


def read_weights(keys: HubKeys, has_experts: bool) -> Weights:
    """The format of the weights beside this config. Wrong keys are noted in `keys`.

    NVIDIA Model Optimizer may leave the format in an hf_quant_config.json beside it.

    Raises:
        InputError: that second file is no JSON.
    """
    config = keys.raw("quantization_config")
    if config is None:
        config = _beside(keys)
    if config is None:
        return _plain(keys)
    if not isinstance(config, dict):
        keys.report("quantization_config", "must be a mapping", config)
        return Weights("bf16", "bfloat16", "safetensors16")
    quantised = cast("dict[str, Any]", config)
    method = quantised.get("quant_method") or ("modelopt" if "quant_algo" in quantised else None)
    if method not in METHODS:
        keys.report("quantization_config.quant_method", "is not one that is served", method, ", ".join(METHODS))
        return _plain(keys)
    weights = _by_method(str(method), quantised, has_experts)
    if weights is None:
        keys.report("quantization_config", "does not say how many bits a weight has", method, "4 or 8")
        return Weights("bf16", "bfloat16", "safetensors16")
    return weights


def _beside(keys: HubKeys) -> Any:
    path = keys.path.with_name("hf_quant_config.json")
    return read_hub_keys(path).raw("quantization") if path.is_file() else None


def _plain(keys: HubKeys) -> Weights:
    dtype = keys.raw("torch_dtype", "dtype")
    if not isinstance(dtype, str) or dtype not in PLAIN:
        message = "is missing (or dtype)" if dtype is None else "is not one that is served"
        keys.report("torch_dtype", message, dtype, ", ".join(PLAIN))
        return Weights("bf16", "bfloat16", "safetensors16")
    return Weights(PLAIN[dtype], dtype, "safetensors32" if dtype == "float32" else "safetensors16")


def _by_method(method: str, config: dict[str, Any], has_experts: bool) -> Weights | None:
    if method in ("fp8", "fbgemm_fp8"):
        block = config.get("weight_block_size")
        return Weights("fp8", "fp8-block128" if block else "fp8", "fp8")
    if method == "mxfp4":
        return Weights("mxfp4", "mxfp4-experts+bf16" if has_experts else "mxfp4", "mxfp4")
    if method in ("awq", "gptq"):
        bits = config.get("bits", config.get("w_bit"))
        formats = {4: Weights("int4", f"int4-{method}", method), 8: Weights("int8", f"int8-{method}", "w8a16")}
        return formats.get(bits) if isinstance(bits, int) else None
    return _by_groups(config, has_experts) or _by_algorithm(config)


def _by_algorithm(config: dict[str, Any]) -> Weights | None:
    """NVIDIA Model Optimizer names the format itself."""
    algorithm = str(config.get("quant_algo", "")).upper()
    if "NVFP4" in algorithm:
        return Weights("nvfp4", "nvfp4", "nvfp4")
    return Weights("fp8", "fp8", "fp8") if "FP8" in algorithm else None


def _by_groups(config: dict[str, Any], has_experts: bool) -> Weights | None:
    """compressed-tensors: the smallest weights of the config's groups stand for the checkpoint."""
    groups = config.get("config_groups")
    found: list[tuple[int, str, bool]] = []
    for group in cast("dict[str, Any]", groups).values() if isinstance(groups, dict) else ():
        parts = cast("dict[str, Any]", group) if isinstance(group, dict) else {}
        weights = parts.get("weights")
        values = cast("dict[str, Any]", weights) if isinstance(weights, dict) else {}
        if values.get("num_bits") in (4, 8) and values.get("type") in ("int", "float"):
            found.append((values["num_bits"], values["type"], bool(parts.get("input_activations"))))
    if not found:
        return None
    bits, kind, activations = min(found)
    only_experts = has_experts and "self_attn" in str(config.get("ignore", ""))
    suffix = "-experts" if only_experts else ""
    if kind == "float":
        return Weights("nvfp4", f"nvfp4{suffix}", "nvfp4") if bits == 4 else Weights("fp8", f"fp8{suffix}", "fp8")
    if bits == 4:
        return Weights("int4", f"int4{suffix}", "w4a16")
    return Weights("int8", f"int8{suffix}", "w8a8" if activations else "w8a16")
