"""AWS's own figures and public measurements, to hold the article's printed ones against."""

import csv
from collections.abc import Mapping
from pathlib import Path

import pytest


@pytest.fixture(scope="session")
def aws() -> Mapping[str, float]:
    """Figures by "<subject> <quantity>", from aws_figures.csv, where source and date stand beside each."""
    with Path(__file__).with_name("aws_figures.csv").open(encoding="utf-8", newline="") as file:
        return {f"{row['subject']} {row['quantity']}": float(row["value"]) for row in csv.DictReader(file)}
