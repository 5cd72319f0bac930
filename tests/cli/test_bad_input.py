"""Every mistake a user can make gives one message: where, the value, what is allowed, the nearest spelling; exit
code 2, no traceback.
"""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from llm_fleet.cli import main
from llm_fleet.documents import CONFIGS

MVP = (CONFIGS / "patterns" / "startup-mvp.yaml").read_text()
LLAMA = {
    "architectures": ["LlamaForCausalLM"],
    "model_type": "llama",
    "hidden_size": 4096,
    "num_hidden_layers": 32,
    "num_attention_heads": 32,
    "num_key_value_heads": 8,
    "intermediate_size": 14336,
    "vocab_size": 128256,
    "max_position_embeddings": 8192,
    "torch_dtype": "bfloat16",
}


@dataclass(frozen=True)
class Row:
    """One mistake: words on the command line, and pieces that the message must hold."""

    name: str
    words: tuple[str, ...]
    says: tuple[str, ...] = ()


@dataclass(frozen=True)
class FileRow:
    """One mistake in a pattern file: text replaced in startup-mvp.yaml, and pieces that the message must hold."""

    name: str
    old: str
    new: str
    says: tuple[str, ...] = ()


@dataclass(frozen=True)
class ConfigRow:
    """One mistake in a model's config.json: keys changed (None removes), or the whole text."""

    name: str
    changed: dict[str, object] = field(default_factory=dict[str, object])
    text: str | None = None
    says: tuple[str, ...] = ()


def override(text: str) -> tuple[str, ...]:
    """The words of a plan with one override."""
    return ("plan", "startup-mvp", "-c", text)


def create_key_with(*options: str, name: str = "demo") -> tuple[str, ...]:
    """The words that would make a key, in a table that need not be there."""
    return ("keys", "create", name, "--table", "keys", *options)


OPTIONS = (
    Row("unknown pattern", ("plan", "startup-mpv"), ("unknown pattern", "'startup-mpv'", "did you mean startup-mvp?")),
    Row("pattern with underscores", ("plan", "startup_mvp"), ("did you mean startup-mvp?",)),
    Row("pattern in capitals", ("plan", "STARTUP-MVP"), ("did you mean startup-mvp?",)),
    Row("empty pattern", ("plan", ""), ("unknown pattern",)),
    Row("missing pattern file", ("plan", "nowhere/fleet.yaml"), ("nowhere/fleet.yaml", "cannot be read")),
    Row("a folder as pattern", ("plan", "/tmp/"), ("cannot be read",)),
    Row("unknown override", override("modle=x"), ("unknown override 'modle'", "did you mean model?")),
    Row("override of another tool", override("gpu=A100"), ("unknown override 'gpu'", "allowed: model")),
    Row("override without equals", override("model"), ("-c model", "needs a value")),
    Row("override without value", override("model="), ("-c model=", "needs a value")),
    Row("override with blank value", override("region=  "), ("needs a value",)),
    Row("override without key", override("=x"), ("unknown override ''",)),
    Row("unknown model", override("model=Qwen/Qwen3-33B"), ("unknown model", "did you mean Qwen/Qwen3-32B?")),
    Row("nonsense model", override("model=zzzzqqqq"), ("unknown model",)),
    Row("model path that is missing", override("model=./no/such/config.json"), ("no/such/config.json",)),
    Row("unknown precision", override("precision=fp17"), ("unknown precision", "did you mean fp16?")),
    Row("precision in capitals", override("precision=FP16"), ("did you mean fp16?",)),
    Row("precision the model lacks", override("precision=mxfp4"), ("is not served in mxfp4", "allowed: ")),
    Row("unknown region", override("region=us-esat-1"), ("unknown region", "did you mean us-east-1?")),
    Row("zone instead of region", override("region=us-east-1a"), ("unknown region", "did you mean us-east-1?")),
    Row("unknown family", override("instance_families=g55"), ("unknown instance family", "did you mean g5?")),
    Row("type instead of family", override("instance_families=g5.xlarge"), ("unknown instance family", "'g5.xlarge'")),
    Row("one good, one bad family", override("instance_families=g5,h100"), ("'h100'",)),
    Row("empty family in list", override("instance_families=g5,,g6"), ("empty name between commas",)),
    Row("only commas", override("instance_families=,"), ("empty name between commas",)),
    Row("a retired family", override("instance_families=p3"), ("retired", "p3.2xlarge")),
    Row("another retired family", override("instance_families=dl1"), ("retired", "dl1.24xlarge")),
    Row("a family without engine", override("instance_families=inf1"), ("no engine path",)),
    Row(
        "family not in the region",
        ("plan", "startup-mvp", "-c", "region=eu-west-3", "-c", "instance_families=p5en"),
        ("region",),
    ),
    Row("zero instances", override("max_instances=0"), ("1 to 1000",)),
    Row("negative instances", override("max_instances=-3"), ("1 to 1000", "'-3'")),
    Row("fraction of instances", override("max_instances=2.5"), ("1 to 1000",)),
    Row("instances as a word", override("max_instances=ten"), ("1 to 1000", "'ten'")),
    Row("too many instances", override("max_instances=100000"), ("1 to 1000",)),
    Row("digits of another script", override("max_instances=٣"), ("1 to 1000",)),
    Row("unknown purchase", override("purchase=spott"), ("unknown purchase", "did you mean spot?")),
    Row("percent as purchase", override("purchase=70"), ("unknown purchase", "on-demand")),
    Row(
        "two mistakes at once",
        ("plan", "startup-mvp", "-c", "precision=fp17", "-c", "purchase=never"),
        ("unknown precision", "unknown purchase"),
    ),
    Row(
        "a model that fits nowhere in the region",
        ("plan", "startup-mvp", "-c", "model=meta-llama/Llama-3.1-405B", "-c", "region=eu-west-3"),
        ("no type can serve",),
    ),
    Row(
        "a model too big for the families",
        ("plan", "startup-mvp", "-c", "model=meta-llama/Llama-3.1-405B", "-c", "instance_families=g5"),
        ("no type can serve", "memory"),
    ),
    Row(
        "a format that the hardware lacks",
        ("plan", "startup-mvp", "-c", "precision=bf16", "-c", "instance_families=g4dn"),
        ("precision", "bf16 does not run on T4"),
    ),
    Row("unknown type in the catalogue", ("catalog", "show", "g5.xlarg"), ("did you mean g5.xlarge?",)),
    Row(
        "unknown region in the catalogue",
        ("catalog", "show", "g5.xlarge", "--region", "us-east1"),
        ("did you mean us-east-1?",),
    ),
    Row("a pattern to try that is unknown", ("dev", "--pattern", "startup-mpv"), ("did you mean startup-mvp?",)),
    Row("keys of nowhere", ("keys", "list"), ("which keys?", "--stack", "--table")),
    Row("a key without a name", create_key_with(name=""), ("a key's name", "1 to 64 letters")),
    Row("a key's name with a line break", create_key_with(name="a\nb"), ("a key's name", r"'a\nb'")),
    Row("a key's name that is long", create_key_with(name="n" * 65), ("a key's name",)),
    Row("no requests allowed", create_key_with("--requests-per-minute", "0"), ("--requests-per-minute", "from 1 to")),
    Row("negative tokens allowed", create_key_with("--tokens-per-minute=-5"), ("--tokens-per-minute", "'-5'")),
    Row("a limit as a word", create_key_with("--tokens-per-minute", "many"), ("--tokens-per-minute", "'many'")),
    Row("a limit beyond reason", create_key_with("--requests-per-minute", "9" * 40), ("--requests-per-minute",)),
    Row("a limit in another script", create_key_with("--requests-per-minute", "٣"), ("--requests-per-minute",)),
    Row("unknown priority", create_key_with("--priority", "realtme"), ("did you mean realtime?",)),
    Row("unknown budget", create_key_with("--budget", "flexibel"), ("did you mean flexible?",)),
    Row(
        "two mistakes in a key",
        create_key_with("--priority", "now", "--budget", "none"),
        ("unknown priority", "unknown budget"),
    ),
    Row("a key's text instead of its id", ("keys", "revoke", "llmf-0123", "--table", "t"), ("is no key id",)),
)

FILES = (
    FileRow(
        "unknown key at the top",
        "precision: int8",
        "precison: int8",
        ("unknown key 'precison'", "did you mean precision?"),
    ),
    FileRow("missing key", "region: us-east-1\n", "", ("key 'region' is missing",)),
    FileRow("unknown key in a pool", "marks:", "mraks:", ("pools.cost_efficient.mraks", "did you mean marks?")),
    FileRow("unknown role", "  cost_efficient:\n", "  cost_eficient:\n", ("did you mean cost_efficient?",)),
    FileRow("unknown key in purchase", "spot_percent: 70", "spot_percentage: 70", ("did you mean spot_percent?",)),
    FileRow("spot above 100", "spot_percent: 70", "spot_percent: 120", ("fleet.yaml:", "spot_percent", "120", "100")),
    FileRow("negative spot", "spot_percent: 70", "spot_percent: -1", ("spot_percent", "-1")),
    FileRow("spot as text", "spot_percent: 70", "spot_percent: '70'", ("spot_percent", "integer")),
    FileRow("spot with a percent sign", "spot_percent: 70", "spot_percent: 70%", ("spot_percent", "'70%'")),
    FileRow("min above max", "min_instances: 1", "min_instances: 11", ("min_instances 11 is above max_instances 10",)),
    FileRow(
        "base above max", "on_demand_base_instances: 1", "on_demand_base_instances: 11", ("above max_instances 10",)
    ),
    FileRow(
        "no requests",
        "requests_per_day: 20000",
        "requests_per_day: 0",
        ("requests_per_day", "greater than or equal to 1"),
    ),
    FileRow("requests as a fraction", "requests_per_day: 20000", "requests_per_day: 0.5", ("requests_per_day",)),
    FileRow("infinite requests", "requests_per_day: 20000", "requests_per_day: .inf", ("requests_per_day",)),
    FileRow("peak below the mean", "peak_to_mean: 3", "peak_to_mean: 0.5", ("peak_to_mean",)),
    FileRow("peak not a number", "peak_to_mean: 3", "peak_to_mean: .nan", ("peak_to_mean",)),
    FileRow("no tokens", "input_tokens: 512", "input_tokens: 0", ("input_tokens",)),
    FileRow("request above the context", "input_tokens: 512", "input_tokens: 4000", ("4256 tokens", "4096")),
    FileRow(
        "context above the model",
        "max_model_len_tokens: 4096\n    workload: {input_tokens: 512",
        "max_model_len_tokens: 90000\n    workload: {input_tokens: 9000",
        ("longer than the context", "4096"),
    ),
    FileRow("unknown usage", "kind: steady", "kind: always", ("usage.kind", "office-hours, overnight, steady")),
    FileRow("unknown zone", "{kind: steady}", "{kind: steady, time_zone: America/NewYork}", ("America/New_York",)),
    FileRow("abbreviated zone", "{kind: steady}", "{kind: steady, time_zone: EDT}", ("IANA",)),
    FileRow("zone that climbs folders", "{kind: steady}", "{kind: steady, time_zone: ../../etc/passwd}", ("IANA",)),
    FileRow("hour 24", "{kind: steady}", "{kind: steady, end_hour: 24}", ("end_hour", "23")),
    FileRow("negative mark", "ttft_ms: 1500", "ttft_ms: -1", ("ttft_ms",)),
    FileRow("zero mark", "tpot_ms: 100", "tpot_ms: 0", ("tpot_ms",)),
    FileRow("no pools", MVP[MVP.index("pools:") : MVP.index("deploy:")], "pools: {}\n", ("pools",)),
    FileRow("pools as a list", MVP[MVP.index("pools:") : MVP.index("deploy:")], "pools: [a]\n", ("pools",)),
    FileRow("only optional pools", "required: true", "required: false", ("at least one pool must be required",)),
    FileRow("boolean as text", "required: true", "required: yes please", ("required",)),
    FileRow("fallback missing", "  batch_processing: [cost_efficient]\n", "", ("batch_processing", "fallback")),
    FileRow(
        "fallback to itself",
        "batch_processing: [cost_efficient]",
        "batch_processing: [batch_processing]",
        ("names batch_processing itself",),
    ),
    FileRow(
        "fallback to nowhere",
        "high_performance: [cost_efficient]",
        "high_performance: [batch_processing]",
        ("leads to none",),
    ),
    FileRow(
        "fallback named twice",
        "high_performance: [cost_efficient]",
        "high_performance: [cost_efficient, cost_efficient]",
        ("twice",),
    ),
    FileRow(
        "unknown role in fallback",
        "high_performance: [cost_efficient]",
        "high_performance: [cheap]",
        ("high_performance",),
    ),
    FileRow("bad name", "name: startup-mvp", "name: startup mvp!", ("name", "right form")),
    FileRow("name as a number", "name: startup-mvp", "name: 7", ("name", "string")),
    FileRow(
        "unknown model in file", "Llama-2-7b-chat-hf", "Llama-2-7b-chatt-hf", ("fleet.yaml:5 model", "did you mean")
    ),
    FileRow("unknown precision in file", "precision: int8", "precision: int9", ("fleet.yaml:6 precision", "int8")),
    FileRow("unknown region in file", "us-east-1", "mars-1", ("fleet.yaml:4 region", "unknown region")),
    FileRow("unknown article type", "g5.xlarge", "g5.xlargest", ("article_instance_type", "did you mean g5.xlarge?")),
    FileRow(
        "unknown family in file",
        "purchase:",
        "constraints: {instance_families: [g77]}\n    purchase:",
        ("unknown instance family", "'g77'"),
    ),
    FileRow(
        "zone of another region",
        "purchase:",
        "constraints: {zone_ids: [euw1-az1]}\n    purchase:",
        ("zone of us-east-1",),
    ),
    FileRow(
        "a bill that cannot be kept",
        "purchase:",
        "constraints: {max_usd_per_month: 1}\n    purchase:",
        ("no type can serve", "budget"),
    ),
    FileRow(
        "arm only",
        "purchase:",
        "constraints: {architectures: [arm64]}\n    purchase:",
        ("no type can serve", "architecture"),
    ),
    FileRow("marks nobody keeps", "ttft_ms: 1500, tpot_ms: 100", "ttft_ms: 1, tpot_ms: 0.1", ("no type can serve",)),
    FileRow(
        "no budget",
        "  budget_usd_per_month: 2000\n",
        "  alarm_email: a@b.example\n",
        ("budget_usd_per_month", "missing"),
    ),
    FileRow(
        "bad email", "budget_usd_per_month: 2000", "budget_usd_per_month: 2000\n  alarm_email: nobody", ("alarm_email",)
    ),
    FileRow(
        "public without certificate",
        "budget_usd_per_month: 2000",
        "budget_usd_per_month: 2000\n  gateway: {public: true}",
        ("certificate_arn",),
    ),
    FileRow(
        "vpc without its subnets",
        "budget_usd_per_month: 2000",
        "budget_usd_per_month: 2000\n  network: {vpc_id: vpc-12345678}",
        ("private_subnet_ids",),
    ),
    FileRow("bad ami", "purchase:", "ami_id: ami-xyz\n    purchase:", ("ami_id",)),
    FileRow("branch instead of commit", "{source: hub,", "{source: hub, revision: main,", ("revision", "right form")),
    FileRow(
        "duplicate key", "precision: int8", "precision: int8\nprecision: fp16", ("stands twice", "first on line 6")
    ),
    FileRow("anchor and alias", "precision: int8", "precision: &p int8\narticle_instance_type: *p", ("aliases",)),
    FileRow("a tag", "precision: int8", "precision: !!python/object:os.system int8", ("tag",)),
    FileRow("unclosed bracket", "[cost_efficient]", "[cost_efficient", ("is not valid YAML", "fleet.yaml:")),
    FileRow(
        "tab as indent", "  cost_efficient:\n    required", "\tcost_efficient:\n    required", ("is not valid YAML",)
    ),
    FileRow("undefined alias", "precision: int8", "precision: *nowhere", ("is not valid YAML",)),
    FileRow("a list as document", MVP, "- a\n- b\n", ("must hold a mapping",)),
    FileRow("an empty document", MVP, "", ("must hold a mapping",)),
    FileRow("plain text", MVP, "startup", ("must hold a mapping",)),
    FileRow("two documents", "pools:", "---\npools:", ("is not valid YAML",)),
    FileRow("a key that is a list", "precision: int8", "? [a, b]\n: int8", ("plain text",)),
)

CONFIG_FILES = (
    ConfigRow("broken JSON", text="{", says=("config.json", "JSON")),
    ConfigRow("not a mapping", text="[1, 2]", says=("config.json", "mapping")),
    ConfigRow("empty file", text="", says=("config.json",)),
    ConfigRow("empty mapping", text="{}", says=("model_type",)),
    ConfigRow("missing layers", {"num_hidden_layers": None}, says=("num_hidden_layers",)),
    ConfigRow("layers as text", {"num_hidden_layers": "many"}, says=("num_hidden_layers", "many")),
    ConfigRow("negative width", {"hidden_size": -4096}, says=("hidden_size", "-4096")),
    ConfigRow("zero heads", {"num_attention_heads": 0}, says=("num_attention_heads",)),
    ConfigRow("absurd width", {"hidden_size": 10**12}, says=("hidden_size",)),
    ConfigRow("boolean as number", {"vocab_size": True}, says=("vocab_size",)),
    ConfigRow("heads that do not divide", {"num_key_value_heads": 7}, says=("num_key_value_heads",)),
    ConfigRow("an image model", text='{"model_type": "vit", "image_size": 224}', says=("vit",)),
)


def refused(words: tuple[str, ...], capsys: pytest.CaptureFixture[str], says: tuple[str, ...] = ()) -> str:
    """The message of a run that must end with exit code 2, print nothing on standard output and say all of `says`."""
    assert main(words) == 2
    captured = capsys.readouterr()
    assert captured.out == ""
    assert "Traceback" not in captured.err
    assert captured.err.strip()
    for piece in says:
        assert piece in captured.err
    return captured.err


@pytest.mark.parametrize("row", OPTIONS, ids=lambda row: row.name)
def test_a_mistake_on_the_command_line_is_explained(row: Row, capsys: pytest.CaptureFixture[str]) -> None:
    refused(row.words, capsys, row.says)


@pytest.mark.parametrize("row", FILES, ids=lambda row: row.name)
def test_a_mistake_in_a_pattern_file_is_explained(
    row: FileRow, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert row.old in MVP, "the row must change something"
    path = tmp_path / "fleet.yaml"
    path.write_text(MVP.replace(row.old, row.new))
    refused(("plan", str(path)), capsys, row.says)


@pytest.mark.parametrize("row", CONFIG_FILES, ids=lambda row: row.name)
def test_a_mistake_in_a_config_json_is_explained(
    row: ConfigRow, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    keys = {**LLAMA, **row.changed}
    path = tmp_path / "config.json"
    path.write_text(json.dumps({k: v for k, v in keys.items() if v is not None}) if row.text is None else row.text)
    refused(override(f"model={path}"), capsys, row.says)


def test_aliases_that_explode_are_refused_quickly(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    lines = ["a0: &a0 [x, x, x, x, x, x, x, x, x]"]
    lines += [f"a{n}: &a{n} [{', '.join([f'*a{n - 1}'] * 9)}]" for n in range(1, 12)]
    path = tmp_path / "bomb.yaml"
    path.write_text("\n".join(lines))
    assert "aliases" in refused(("plan", str(path)), capsys)


def test_bytes_that_are_no_text_are_refused(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "fleet.yaml"
    path.write_bytes(b"name: \xff\xfe\n")
    assert "is not UTF-8 text" in refused(("plan", str(path)), capsys)


def test_a_file_nested_too_deep_is_refused(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "deep.yaml"
    path.write_text("a: " + "[" * 5000 + "]" * 5000)
    refused(("plan", str(path)), capsys)


def test_a_file_too_large_is_refused_unread(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "large.yaml"
    path.write_bytes(b"#" * 1_000_001)
    assert "too large" in refused(("plan", str(path)), capsys)


def test_all_mistakes_of_a_file_come_at_once(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "fleet.yaml"
    text = MVP.replace("spot_percent: 70", "spot_percent: 120").replace("kind: steady", "kind: stedy")
    path.write_text(text.replace("tpot_ms: 100", "tpot_ms: -1"))
    message = refused(("plan", str(path)), capsys)
    assert message.count("\n") == 3
