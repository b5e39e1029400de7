"""Somebody's own ratings, from a file to lists, as the README says; and what a deployment makes of
such."""

import csv
import json
import random
import re
from collections.abc import Mapping
from pathlib import Path

import dagster as dg
import pandas as pd
import pytest
import yaml

from cf_pipeline.assets.movielens_archive import MovielensArchiveConfig
from cf_pipeline.recommender.serving import Recommender
from cf_pipeline_tests.project import REPOSITORY, Project

README = (REPOSITORY / "README.md").read_text(encoding="utf-8")
SECTION = README.partition("### Bring your own ratings")[2].partition("\n### ")[0]
KINDS = 6
COLUMNS = {"user": "reader", "item": "book", "rating": "stars"}


def block(language: str) -> str:
    """The section's one block of code in a language."""
    (found,) = re.findall(f"```{language}\n(.*?)```", SECTION, re.DOTALL)
    return str(found)


def write_books(path: Path, header: list[str]) -> pd.DataFrame:
    """Write ratings of readers who choose, and like, books of a kind of their own."""
    drawn = random.Random(0)
    books = [f'The "{number}", a novel' for number in range(30 * KINDS)]
    rows = []
    for reader in range(250):
        weights = [8 if number % KINDS == reader % KINDS else 1 for number in range(len(books))]
        for number in set(drawn.choices(range(len(books)), weights, k=50)):
            liked = number % KINDS == reader % KINDS
            halves = round(2 * (2.5 + 1.2 * liked + (number % 7) / 7 + drawn.gauss(0, 0.4)))
            stars = min(10, max(1, halves)) / 2
            when = drawn.choice(["", f"2004-05-{drawn.randint(1, 28):02d}"])
            rows.append([f"reader {reader}", books[number], stars, when])
    with path.open("w", newline="", encoding="utf-8") as file:
        csv.writer(file).writerows([header, *(row[: len(header)] for row in rows)])
    return pd.DataFrame(rows, columns=[*COLUMNS.values(), "when"])


@pytest.fixture
def project(tmp_path: Path) -> Project:
    return Project(tmp_path / "project", tmp_path)


def test_the_readme_goes_from_a_file_to_lists(project):
    header, *shown = csv.reader(block("csv").splitlines())
    books = write_books(project.directory / "books.csv", header)
    assert all(len(row) == len(header) for row in shown)
    (project.directory / "books.yaml").write_text(block("yaml"))
    command = block("sh").strip()
    assert command.startswith(".venv/bin/dagster ")
    run = project.run_to_end(*project.command()[:3], *command.replace("'", "").split()[1:])
    assert run.returncode == 0, run.output
    lists = pd.read_parquet(project.artifacts / "recommendations/latest/recommendations.parquet")
    assert set(lists["user"]) == set(books["reader"])
    rated = books.rename(columns={"reader": "user", "book": "movie"})[["user", "movie"]]
    assert lists.merge(rated, on=["user", "movie"]).empty
    assert lists["predicted_rating"].between(0.5, 5).all()
    assert (lists["title"] == lists["movie"]).all()
    kinds = [lists["user"].str.extract(r"(\d+)")[0], lists["movie"].str.extract(r"(\d+)")[0]]
    reader, book = (kind.astype(int) % KINDS for kind in kinds)
    assert (reader == book)[lists["rank"] <= 5].mean() > 0.8
    recommender = Recommender.load(project.artifacts / "served_model/latest")
    best = recommender.recommend("reader 7", 1)["movie"][0]
    assert best == lists[(lists["user"] == "reader 7") & (lists["rank"] == 1)]["movie"].item()
    assert project.metadata("train_test_split")["strategy"] == "random"
    assert project.metadata("ratings")["ratings_without_timestamp"] > 0


def test_another_mapping_is_another_archive_and_another_place_is_not(
    project: Project, tmp_path: Path
):
    write_books(tmp_path / "books.csv", [*COLUMNS.values()])
    first = {"path": str(tmp_path / "books.csv"), **COLUMNS}

    def made(custom: Mapping[str, object]) -> dict[str, str]:
        config = {"movielens_archive": {"dataset": "custom", "custom": custom}}
        return project.cache("*ratings", config)

    assert set(made(first).values()) == {"miss"}
    (tmp_path / "elsewhere").mkdir()
    moved = (tmp_path / "books.csv").rename(tmp_path / "elsewhere" / "books.csv")
    assert set(made({**first, "path": str(moved)}).values()) == {"hit"}
    assert set(made({**first, "path": str(moved), "rating": None}).values()) == {"miss"}


def test_a_deployment_takes_its_ratings_from_a_file_of_config(project, tmp_path):
    write_books(tmp_path / "books.csv", [*COLUMNS.values()])
    said = {"dataset": "custom", "custom": {"path": str(tmp_path / "books.csv"), **COLUMNS}}
    (tmp_path / "books.yaml").write_text(yaml.safe_dump(said))
    deployed = project.with_variables({"CF_PIPELINE_RATINGS": str(tmp_path / "books.yaml")})
    made = deployed.cache("*train_test_split", {"movielens_archive": {}})
    assert set(made.values()) == {"miss"}
    split = deployed.metadata("train_test_split")
    assert (split["strategy"], split["test_rows"]) == ("leave_k_out", 250 * 10)
    tick = (
        "import dagster as dg, json\n"
        "from cf_pipeline.retraining import new_ratings\n"
        "with dg.DagsterInstance.ephemeral() as instance:\n"
        "    cursor = None\n"
        "    for _ in range(3):\n"
        "        context = dg.build_sensor_context(instance, cursor=cursor)\n"
        "        found = new_ratings(context)\n"
        "        cursor = found.cursor\n"
        "        print(json.dumps([request.run_config for request in found.run_requests or []]))\n"
    )
    looks = deployed.run_to_end(*project.command()[:1], "-c", tick)
    assert looks.returncode == 0, looks.output
    requests = [json.loads(line) for line in looks.output.splitlines() if line.startswith("[")]
    plain: dict[str, object] = {"ops": {"movielens_archive": {"config": {}}}}
    assert requests == [[], [plain], []]


def test_custom_ratings_that_nobody_describes_are_refused_with_the_remedy():
    config = MovielensArchiveConfig.model_validate({"dataset": "custom"})
    with pytest.raises(dg.Failure, match="put their path and columns into the config"):
        config.own_tables()


def test_drawn_ratings_that_a_deployment_asks_for_go_to_the_vocabularies(project, tmp_path):
    (tmp_path / "drawn.yaml").write_text("synthetic: {n_ratings: 5000, seed: 3}")
    deployed = project.with_variables({"CF_PIPELINE_RATINGS": str(tmp_path / "drawn.yaml")})
    made = deployed.cache("*vocabularies", {"movielens_archive": {}})
    assert set(made.values()) == {"miss"}
    said = deployed.metadata("movielens_archive")["ratings"]
    assert said == "5,000, drawn with seed 3"
    assert deployed.metadata("ratings")["dagster/row_count"] == 5000
