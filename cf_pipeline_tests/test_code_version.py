"""Code versions: what of the source counts, and what does not."""

import os
import subprocess
import sys

import pytest

from cf_pipeline.code_version import code_version
from cf_pipeline_tests.project import REPOSITORY

PRINT = (
    "from cf_pipeline.code_version import code_version; print(code_version('cf_pipeline.assets.x'))"
)
ASSET = '''"""An asset."""
def build():
    from cf_pipeline.recommender.y import compute
    from cf_pipeline import artifacts
    return compute()
'''
USED = '''"""Arithmetic."""
import numpy

from cf_pipeline.recommender import z


def compute():
    """Return two."""
    return 2
'''


@pytest.fixture
def version(tmp_path):
    """A function that writes modules into a package and returns the code version of its asset, from
    a fresh process."""
    package = tmp_path / "cf_pipeline"
    (package / "assets").mkdir(parents=True)
    (package / "recommender").mkdir()
    for folder in (package, package / "assets", package / "recommender"):
        (folder / "__init__.py").touch()
    source = (REPOSITORY / "cf_pipeline" / "code_version.py").read_text()
    (package / "code_version.py").write_text(source)

    def version(before: str = "", **changed: str) -> str:
        modules = {
            "assets/x": ASSET,
            "recommender/y": USED,
            "recommender/z": "A = 1",
            "recommender/unused": "B = 1",
            "artifacts": "C = 1",
        }
        for name, text in (modules | changed).items():
            (package / f"{name}.py").write_text(text)
        done = subprocess.run(
            [sys.executable, "-c", before + PRINT],
            cwd=tmp_path,
            # What is read of a source is kept as compiled modules are, unless this forbids it.
            env=os.environ | {"PYTHONDONTWRITEBYTECODE": ""},
            capture_output=True,
            text=True,
            check=True,
        )
        return done.stdout.strip()

    return version


def test_only_the_meaning_of_what_makes_the_result_counts(version):
    first = version()
    assert version() == first
    same = {
        "comment": {"recommender/y": USED + "# A remark.\n"},
        "docstring": {"recommender/y": USED.replace("Return two.", "Return 2.")},
        "formatting": {"recommender/y": USED.replace("return 2", "return (2)")},
        "an import for type checkers": {
            "recommender/y": USED.replace(
                "\n\ndef compute",
                "\n\nif TYPE_CHECKING:\n    from cf_pipeline.recommender import unused\n\n"
                "\ndef compute",
            )
        },
        "another module": {"recommender/unused": "B = 2"},
        "the store": {"artifacts": "C = 2"},
    }
    assert {what: version(**change) for what, change in same.items()} == dict.fromkeys(same, first)
    other = {
        "the asset": {"assets/x": ASSET.replace("compute()", "compute() + 1")},
        "what it imports inside a function": {
            "recommender/y": USED.replace("return 2", "return 3")
        },
        "what that imports": {"recommender/z": "A = 2"},
        "a library more": {"recommender/z": "import pandas\nA = 1"},
    }
    versions = {what: version(**change) for what, change in other.items()}
    assert first not in versions.values()
    assert len(set(versions.values())) == len(other)


def test_a_version_is_found_without_importing_anything():
    script = (
        "import sys; from cf_pipeline.code_version import code_version;"
        "code_version('cf_pipeline.assets.factor_model');"
        "print({'torch', 'pandas', 'cf_pipeline.assets.factor_model'} & set(sys.modules))"
    )
    done = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, check=True
    )
    assert done.stdout.strip() == "set()"


PARSED = "import ast, sys; ast.parse = lambda source: sys.exit('parsed'); "


def test_a_source_is_parsed_once_for_all_processes(version, tmp_path):
    first = version()
    assert version(before=PARSED) == first
    with pytest.raises(subprocess.CalledProcessError) as parsed:
        version(before=PARSED, **{"recommender/z": "A = 2"})
    assert parsed.value.stderr == "parsed\n"
    with (tmp_path / "cf_pipeline" / "code_version.py").open("a") as own_source:
        own_source.write("# what a source means may be said otherwise now\n")
    with pytest.raises(subprocess.CalledProcessError):
        version(before=PARSED)


@pytest.mark.parametrize(
    "damage",
    [
        lambda _kept: b"",
        lambda kept: b"\0" * len(kept),
        lambda kept: kept[:-1],
        lambda kept: kept + b" cf_pipeline.recommender.unused",
        lambda kept: b"\xff" + kept,
        lambda kept: kept.replace(b" ", b"  ", 1),
    ],
)
def test_what_was_read_of_a_source_counts_only_whole(version, tmp_path, damage):
    first = version()
    kept = list(tmp_path.rglob("*.meaning"))
    assert kept
    for file in kept:
        file.write_bytes(damage(file.read_bytes()))
    assert version() == first
    assert version(before=PARSED) == first


def test_versions_are_found_where_nothing_may_be_written(version, tmp_path):
    first = version()
    for folder in {file.parent for file in tmp_path.rglob("*.meaning")}:
        for file in folder.iterdir():
            file.unlink()
        folder.rmdir()
        folder.touch()  # no folder can be made there
    assert version() == first


def test_a_module_of_another_project_is_refused():
    with pytest.raises(ValueError, match="'json' is not a module of cf_pipeline"):
        code_version("json")


def test_a_relative_import_is_refused(version):
    """Its module would not be found, and so its edits not be noticed."""
    with pytest.raises(subprocess.CalledProcessError) as refusal:
        version(**{"recommender/y": USED + "\n\nfrom .z import A\n"})
    assert "The import from .z in line" in refusal.value.stderr
