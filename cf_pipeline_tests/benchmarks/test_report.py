"""What a program reads from a benchmark's output, and what a person does."""

import json

import pytest

from cf_pipeline_tests.benchmarks.report import Row, Target, print_report

ROWS: list[Row] = [
    {"method": "ours", "RMSE": 0.25, "fold RMSEs": [0.2, 0.3]},
    {"method": "a peer with a long name", "RMSE": 10.5, "fold RMSEs": [10.0, 11.0]},
]


def test_the_last_line_is_all_of_it_as_json(capsys):
    held, missed = Target("low enough", 0.5, 0.5), Target("too high", 0.6, 0.5)
    print_report("accuracy", ROWS, [held, missed, Target("too low", 0.4, 0.6, least=0.5)])
    assert json.loads(capsys.readouterr().out.splitlines()[-1]) == {
        "benchmark": "accuracy",
        "rows": ROWS,
        "targets": [
            {"name": "low enough", "value": 0.5, "limit": 0.5, "least": None, "holds": True},
            {"name": "too high", "value": 0.6, "limit": 0.5, "least": None, "holds": False},
            {"name": "too low", "value": 0.4, "limit": 0.6, "least": 0.5, "holds": False},
        ],
    }


def test_the_lines_before_are_an_aligned_table_of_the_single_figures(capsys):
    print_report("accuracy", ROWS, [])
    assert capsys.readouterr().out.splitlines()[:-1] == [
        "method                      RMSE",
        "ours                      0.2500",
        "a peer with a long name  10.5000",
    ]


def test_rows_of_other_columns_are_another_table(capsys):
    print_report("scale", [{"size": "1M", "seconds": 2.0}, {"size": "1M", "RMSE": 0.5}], [])
    assert capsys.readouterr().out.splitlines()[:-1] == [
        "size  seconds",
        "1M     2.0000",
        "",
        "size    RMSE",
        "1M    0.5000",
    ]


def test_a_figure_that_is_none_is_refused_before_anything_is_printed(capsys):
    with pytest.raises(ValueError, match="not JSON compliant"):
        print_report("accuracy", ROWS, [Target("undefined", float("nan"), 0.5)])
    assert capsys.readouterr().out == ""
