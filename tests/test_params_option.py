"""`--params` takes what YAML takes, and says what it cannot take."""

from __future__ import annotations

from typing import Any

import pytest

from d2v.errors import ConfigError
from pipelines.params_option import parse_params


@pytest.mark.parametrize(
    ("given", "values"),
    [
        ("", {}),
        ("a.b=1,a.c=2e-3 , d=x y", {"a": {"b": 1, "c": 2e-3}, "d": "x y"}),
        ("a.crop=[0.2, 1.0],b=2", {"a": {"crop": [0.2, 1.0]}, "b": 2}),
        ("a={x: 1, y: [2, 'p, q']},b=[]", {"a": {"x": 1, "y": [2, "p, q"]}, "b": []}),
        ("""a="one, two=2",b='it''s'""", {"a": "one, two=2", "b": "it's"}),
        ("a=photos[1],b=null", {"a": "photos[1]", "b": None}),
        ("a='010',b=s3://bucket/x?y=z,c=10", {"a": "010", "b": "s3://bucket/x?y=z", "c": 10}),
        ("a=,b=1", {"a": None, "b": 1}),
    ],
)
def test_values_are_those_of_yaml(given: str, values: dict[str, Any]) -> None:
    assert parse_params(given) == values


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ("vision.ingest.source=a,b", r"--params: 'b' is not key=value\. A value with a comma needs quotes inside"),
        ("seed", r"'seed' is not key=value"),
        ("=1", r"'=1' is not key=value"),
        ("a=[1, 2", r"a bracket or a quotation mark of '\[1, 2' stays open"),
        ("a='x, b=1", r"is not key=value"),
        ("a=[1] 2", r"'2' stands behind a=\[1\]: put a comma"),
        ("a=1_000", r"--params a=1_000, line 1: 1_000 is a text for some readers of YAML: write 1000"),
        ("a=[1, 010]", r"010 is octal for some readers of YAML: write 10"),
    ],
)
def test_what_is_no_pair_is_named(given: str, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        parse_params(given)


def test_values_of_a_file_of_options_stay_as_they_are() -> None:
    assert parse_params({"vision": {"train": {"seed": 1}}}) == {"vision": {"train": {"seed": 1}}}
