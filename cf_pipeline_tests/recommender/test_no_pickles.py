"""No module loads what may run code when it is loaded."""

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

import cf_pipeline

MODULES = sorted(Path(cf_pipeline.__file__).parent.rglob("*.py"))
FORBIDDEN = {
    "pickle", "_pickle", "cPickle", "dill", "cloudpickle", "joblib", "marshal", "shelve",
    "torch.load", "torch.hub", "numpy.load", "pandas.read_pickle",
    "eval", "exec", "builtins.eval", "builtins.exec", "__import__", "importlib.import_module",
}  # fmt: skip


def forbidden(source: str) -> set[str]:
    """Return which of FORBIDDEN a module names, whatever it calls them."""
    tree = ast.parse(source)
    meant: dict[str, str] = {}  # what each imported name stands for
    names: set[str] = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            for alias in node.names:
                names.add(alias.name)
                meant[alias.asname or alias.name.partition(".")[0]] = (
                    alias.name if alias.asname else alias.name.partition(".")[0]
                )
        elif isinstance(node, ast.ImportFrom):
            for alias in node.names:
                name = f"{node.module}.{alias.name}"
                names.add(name)
                meant[alias.asname or alias.name] = name
    names.update(_dotted(tree, meant))
    return {bad for bad in FORBIDDEN for name in names if name == bad or name.startswith(f"{bad}.")}


def _dotted(tree: ast.AST, meant: dict[str, str]) -> Iterator[str]:
    """Yield each name, and each attribute of an attribute of a name, in full."""
    for node in ast.walk(tree):
        attributes: list[str] = []
        while isinstance(node, ast.Attribute):
            attributes.insert(0, node.attr)
            node = node.value
        if isinstance(node, ast.Name):
            yield ".".join([meant.get(node.id, node.id), *attributes])


@pytest.mark.parametrize("module", MODULES, ids=lambda path: path.stem)
def test_no_module_loads_pickles_or_runs_text(module: Path) -> None:
    assert forbidden(module.read_text(encoding="utf-8")) == set()


SAMPLES = [
    ("import pickle", "pickle"),
    ("import os, pickle as p", "pickle"),
    ("from pickle import loads", "pickle"),
    ("import _pickle", "_pickle"),
    ("import cPickle", "cPickle"),
    ("def f():\n    import dill", "dill"),
    ("import cloudpickle", "cloudpickle"),
    ("from joblib import load", "joblib"),
    ("import marshal", "marshal"),
    ("import shelve", "shelve"),
    ("import torch\ntorch.load('x')", "torch.load"),
    ("import torch as t\nread = t.load", "torch.load"),
    ("from torch import load", "torch.load"),
    ("import torch\ntorch.hub.load('x')", "torch.hub"),
    ("import torch.hub", "torch.hub"),
    ("from torch.hub import load", "torch.hub"),
    ("import numpy as np\nnp.load('x', allow_pickle=True)", "numpy.load"),
    ("from numpy import load as read", "numpy.load"),
    ("import pandas as pd\npd.read_pickle('x')", "pandas.read_pickle"),
    ("eval('1')", "eval"),
    ("run = exec", "exec"),
    ("import builtins\nbuiltins.eval('1')", "builtins.eval"),
    ("import builtins as b\nb.exec('1')", "builtins.exec"),
    ("__import__('pickle')", "__import__"),
    ("import importlib\nimportlib.import_module('pickle')", "importlib.import_module"),
]


@pytest.mark.parametrize(("source", "name"), SAMPLES)
def test_each_way_is_found(source: str, name: str) -> None:
    assert name in forbidden(source)


def test_every_way_has_its_sample() -> None:
    assert {name for _, name in SAMPLES} == FORBIDDEN


def test_what_is_harmless_is_not_found() -> None:
    harmless = "import torch\nmodel.eval()\nmodel.load('x')\ntorch.loads\npickled = 1"
    assert forbidden(harmless) == set()
