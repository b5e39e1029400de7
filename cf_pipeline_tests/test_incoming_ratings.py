"""Ratings as they come: bad ones block what is downstream, changed ones are noticed, and of a
mirror's password nothing is kept."""

import re
import shutil
from pathlib import Path

import dagster as dg
import pytest

from cf_pipeline.recommender.movielens_files import u_data
from cf_pipeline.recommender.sources import URL_VARIABLE
from cf_pipeline_tests.project import Project
from cf_pipeline_tests.recommender.mirror import serve
from cf_pipeline_tests.test_caching import edited


def duplicate(lines: list[str]) -> list[str]:
    return [*lines, lines[0]]


def off_the_scale(lines: list[str]) -> list[str]:
    return [*lines[:-2], "1\t1681\t7\t881250949", "1\t1682\t2.5\t881250949"]


def impossible_time(lines: list[str]) -> list[str]:
    return [*lines[:-2], "1\t1681\t3\t100", "1\t1682\t3\t9999999999"]


FAULTS = [
    (duplicate, "ratings_have_no_duplicates", 2),
    (off_the_scale, "ratings_are_on_the_scale", 2),
    (impossible_time, "ratings_have_possible_timestamps", 2),
    (lambda _: [], "ratings_are_there", 0),
]


@pytest.fixture
def folder(tmp_path: Path, archive: Path) -> Path:
    """A folder with the real u.data, to be spoilt."""
    folder = tmp_path / "ml-100k"
    folder.mkdir()
    (folder / "u.data").write_bytes(b"".join(u_data(archive)))
    return folder


@pytest.mark.parametrize(("spoil", "check", "count"), FAULTS)
def test_bad_ratings_block_what_is_downstream_with_counts_and_examples(
    tmp_path, folder, spoil, check, count
):
    path = folder / "u.data"
    lines = path.read_text().splitlines()
    path.write_text("".join(f"{line}\n" for line in spoil(lines)))
    project = Project(tmp_path / "project", folder)
    run = project.materialize()
    assert run.returncode == 1
    assert re.search(f"{check}: .* Mend the ratings at their source", run.output)
    with project.instance() as instance:
        run_id = instance.get_runs(limit=1)[0].run_id
        checks = {
            evaluation.check_name: evaluation
            for record in instance.get_records_for_run(
                run_id, of_type=dg.DagsterEventType.ASSET_CHECK_EVALUATION
            ).records
            if (evaluation := record.event_log_entry.asset_check_evaluation)
        }
    assert {name for name, evaluation in checks.items() if not evaluation.passed} == {check}
    assert checks[check].metadata["faults"].value == count
    assert "examples" in checks[check].metadata or count == 0
    assert set(project.cache_of(run_id)) == {"movielens_archive", "ratings", "movies", "users"}
    # Nor does a run of its own pass by: the check guards its own run, the asset guards itself.
    alone = project.materialize("train_test_split")
    assert alone.returncode == 1
    assert check in alone.output


def test_a_check_that_errs_does_not_pass(project):
    edited(project, "checks.py", "    faults = {}", "    raise RuntimeError('no verdict')")
    shutil.rmtree(project.artifacts / "train_test_split")
    run = project.materialize()
    assert run.returncode == 1
    assert "no verdict" in run.output
    with project.instance() as instance:
        made = project.cache_of(instance.get_runs(limit=1)[0].run_id)
    assert set(made) == {"movielens_archive", "ratings", "movies", "users"}
    assert not list((project.artifacts).glob("train_test_split/*"))


def test_a_malformed_row_is_named_and_nothing_is_made_of_it(tmp_path, folder):
    path = folder / "u.data"
    lines = path.read_text().splitlines()
    lines[70_000] = "1\t2\tfour\t881250949"
    path.write_text("".join(f"{line}\n" for line in lines))
    project = Project(tmp_path / "project", folder)
    run = project.materialize()
    assert run.returncode == 1
    assert "u.data, line 70001" in run.output
    assert "four" in run.output
    assert not (project.artifacts / "ratings" / "latest").exists()


def test_ratings_that_changed_in_place_are_noticed(tmp_path, folder):
    path = folder / "u.data"
    project = Project(tmp_path / "project", folder)
    assert project.cache("*ratings") == {"movielens_archive": "miss", "ratings": "miss"}
    lines = path.read_text().splitlines()
    path.write_text("".join(f"{line}\n" for line in lines[:-1]))
    assert project.cache("*ratings") == {"movielens_archive": "miss", "ratings": "miss"}
    assert project.metadata("ratings")["dagster/row_count"] == len(lines) - 1
    assert project.cache("*ratings") == {"movielens_archive": "hit", "ratings": "hit"}


def test_a_mirror_s_password_is_sent_and_kept_nowhere(tmp_path, archive):
    project = Project(tmp_path / "project", archive)
    with serve(b"another archive") as mirror:
        address = mirror.url.replace("://", "://somebody:s3cret@")
        project.environment |= {URL_VARIABLE: address, "NO_PROXY": "127.0.0.1"}
        sources = {"sources": ["official"], "retries": 0, "timeout": 10}
        run = project.materialize("movielens_archive", {"movielens_archive": sources})
        assert run.returncode == 1
        assert "bytes were received, ml-100k.zip has" in run.output
        assert mirror.requests, "the mirror was not asked"
    assert "s3cret" not in run.output
    for path in project.directory.rglob("*"):
        assert path.is_dir() or b"s3cret" not in path.read_bytes(), path


def test_an_address_among_the_sources_is_refused_before_it_is_asked(tmp_path, archive):
    project = Project(tmp_path / "project", archive)
    sources = {"sources": ["https://somebody:s3cret@127.0.0.1:9/"]}
    run = project.materialize("movielens_archive", {"movielens_archive": sources})
    assert run.returncode == 1
    assert f"into the environment variable {URL_VARIABLE}" in run.output
    assert "s3cret" not in run.output
