"""llm-fleet estimate and validate, as a user runs them."""

from __future__ import annotations

import csv
import json
from pathlib import Path

import pytest

from llm_fleet.calibration.estimate import ADDED
from llm_fleet.cli import main

COLUMNS = (
    "engine,engine_version,mode,model,model_card,params_billion,precision_weights,precision_kv,accelerator,"
    "accelerator_count,tensor_parallel,pipeline_parallel,expert_parallel,data_parallel,batch_or_concurrency,"
    "request_rate_per_s,input_tokens,output_tokens,tpot_ms,mine"
)
GOOD = "vllm,0.15.1,fixed_concurrency,meta-llama/Llama-3.1-8B,,,bf16,,L40S,1,,,,,8,,1000,200,30,kept"
BAD = GOOD.replace(",8,,1000", ",-8,,1000")
STRANGE = GOOD.replace("L40S", "Abacus")


def points(folder: Path, *rows: str, header: str = COLUMNS) -> str:
    path = folder / "in.csv"
    path.write_text("\n".join((header, *rows)) + "\n")
    return str(path)


def run(capsys: pytest.CaptureFixture[str], *arguments: str) -> tuple[int, str, str]:
    code = main(arguments)
    shown = capsys.readouterr()
    return code, shown.out, shown.err


def test_estimate_shows_figures_with_interval_evidence_and_the_nearest_points(capsys: pytest.CaptureFixture[str]):
    code, out, _ = run(
        *(capsys, "estimate", "--model", "Qwen/Qwen3-32B", "--instance", "g6e.12xlarge", "--tp", "4"),
        *("--concurrency", "8"),
    )
    assert code == 0
    assert "output tokens/s" in out
    assert " to " in out
    assert "aws-sagemaker-bench-suite" in out


def test_estimate_in_json_holds_the_same(capsys: pytest.CaptureFixture[str]):
    code, out, _ = run(
        *(capsys, "estimate", "--model", "meta-llama/Llama-3.1-8B", "--instance", "g6.xlarge", "--json"),
    )
    found = json.loads(out)
    assert code == 0
    assert found["fits"]
    assert found["low_tpot_ms"] < found["tpot_ms"] < found["high_tpot_ms"]
    assert found["low_ttft_ms"] < found["ttft_ms"] < found["high_ttft_ms"]


def test_a_model_that_does_not_fit_is_an_answer(capsys: pytest.CaptureFixture[str]):
    code, out, _ = run(capsys, "estimate", "--model", "meta-llama/Llama-3.1-70B", "--instance", "g6.xlarge")
    assert code == 0
    assert "does not fit" in out


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["--instance", "g6.xlarge"], "--model: must be given"),
        (["--model", "meta-llama/Llama-3.1-8B", "--instance", "g6.xlage"], "did you mean g6.xlarge"),
        (["--model", "meta-llama/Llama-3.1-8B", "--instance", "g6.xlarge", "--tp", "8"], "is more than g6.xlarge has"),
        (["--model", "meta-llama/Llama-3.1-8B", "--instance", "g6.xlarge", "--input", "-1"], "--input: must be"),
        (["--model", "meta-llama/Llama-3.1-8B", "--instance", "g6.xlarge", "--precision", "fp9"], "--precision"),
        (["--points", "x.csv"], "go together"),
    ],
)
def test_a_wrong_option_is_named(capsys: pytest.CaptureFixture[str], arguments: list[str], said: str):
    code, _, err = run(capsys, "estimate", *arguments)
    assert code == 2
    assert said in err


def test_points_keep_their_columns_and_gain_predictions_and_reasons(tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    out = tmp_path / "out.csv"
    code, shown, _ = run(capsys, "estimate", "--points", points(tmp_path, GOOD, BAD, STRANGE), "-o", str(out))
    rows = list(csv.DictReader(out.read_text().splitlines()))
    assert code == 1
    assert "in.csv:3 batch_or_concurrency" in shown
    assert list(rows[0]) == [*COLUMNS.split(","), *ADDED]
    assert [row["mine"] for row in rows] == ["kept"] * 3
    assert float(rows[0]["low_tpot_ms"]) < float(rows[0]["predicted_tpot_ms"]) < float(rows[0]["high_tpot_ms"])
    assert [row["predicted_tpot_ms"] for row in rows[1:]] == ["", ""]
    assert "not a number in range" in rows[1]["reason"]
    assert "unknown accelerator" in rows[2]["reason"]


def test_a_file_without_bad_rows_ends_with_0(tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    code, _, _ = run(capsys, "estimate", "--points", points(tmp_path, GOOD), "-o", str(tmp_path / "out.csv"))
    assert code == 0


def test_missing_columns_are_named(tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    path = points(tmp_path, "x,y", header="mode,model")
    code, _, err = run(capsys, "estimate", "--points", path, "-o", str(tmp_path / "out.csv"))
    assert code == 2
    assert "accelerator_count" in err
    assert not (tmp_path / "out.csv").exists()


def test_a_result_that_cannot_be_written_is_named(tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    out = str(tmp_path / "no" / "out.csv")
    code, _, err = run(capsys, "estimate", "--points", points(tmp_path, GOOD), "-o", out)
    assert code == 2
    assert "cannot be written" in err


def test_predictions_do_not_change_with_what_was_measured(tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    out = tmp_path / "out.csv"
    slower = GOOD.replace(",30,kept", ",3000,kept")
    run(capsys, "estimate", "--points", points(tmp_path, GOOD, slower), "-o", str(out))
    first, second = csv.DictReader(out.read_text().splitlines())
    assert first["predicted_tpot_ms"] == second["predicted_tpot_ms"]


def test_validate_prints_errors_by_accelerator_engine_mode_and_source(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
):
    code, out, _ = run(capsys, "validate", "--points", points(tmp_path, GOOD))
    assert code == 0
    for word in ("by accelerator", "by engine class", "by mode", "by source", "L40S"):
        assert word in out


def test_validate_reports_bad_rows_and_judges_the_rest(tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    code, out, err = run(capsys, "validate", "--points", points(tmp_path, GOOD, BAD), "--json")
    assert code == 1
    assert json.loads(out)["judged"] == 1
    assert "in.csv:3 batch_or_concurrency" in err


def test_validate_draws_a_plot(tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    plot = tmp_path / "plot.png"
    run(capsys, "validate", "--points", points(tmp_path, GOOD), "--plot", str(plot))
    assert plot.read_bytes().startswith(b"\x89PNG")


def test_validate_without_measurements_says_so(tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    code, _, err = run(capsys, "validate", "--points", points(tmp_path, GOOD.replace(",30,kept", ",,kept")))
    assert code == 2
    assert "no row that has both" in err
