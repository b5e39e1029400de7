"""What the environment says of a deployment: its defaults, and what is refused."""

import shutil
import time
from pathlib import Path

import dagster as dg
import pytest
import yaml

from cf_pipeline.definitions import defs
from cf_pipeline.deployment import Deployment, DeploymentError
from cf_pipeline_tests.project import Config, Project


def test_the_defaults_are_those_of_the_published_ratings_with_nothing_running_by_itself():
    for environment in ({}, {"CF_PIPELINE_RATINGS": "", "CF_PIPELINE_AUTOMATION": ""}):
        deployment = Deployment.of(environment)
        assert deployment == Deployment()
        assert (deployment.sources, deployment.automation) == (["auto"], False)
        assert (deployment.retraining_cron, deployment.watch_seconds) == ("0 3 * * *", 30)


def test_every_variable_is_read(tmp_path):
    deployment = Deployment.of(
        {
            "CF_PIPELINE_RATINGS": "/data/ratings",
            "CF_PIPELINE_AUTOMATION": "on",
            "CF_PIPELINE_RETRAINING_CRON": "*/5 * * * 1-5",
            "CF_PIPELINE_WATCH_SECONDS": "7",
            "CF_PIPELINE_WEBHOOK": "https://host/s3cret",
            "CF_PIPELINE_DEVICE_LOCKS": str(tmp_path),
        }
    )
    assert deployment == Deployment(
        "/data/ratings",
        True,
        "*/5 * * * 1-5",
        7,
        "https://host/s3cret",
        tmp_path,
        {"sources": ["/data/ratings"]},
    )
    assert deployment.sources == ["/data/ratings"]
    assert "s3cret" not in repr(deployment)


@pytest.mark.parametrize(
    ("name", "value", "message"),
    [
        ("AUTOMATION", "yes", "is 'yes': set it to on or off"),
        ("RETRAINING_CRON", "at three", "is 'at three', which is no cron expression"),
        ("RETRAINING_CRON", "0 3 * * * *", "is no cron expression of five fields"),
        ("RETRAINING_CRON", "0 3 30 2 *", "is no cron expression"),
        ("WATCH_SECONDS", "0", "is '0': give a whole number above zero"),
        ("WATCH_SECONDS", "1.5", "is '1.5': give a whole number"),
        ("RATINGS", "https://alice:s3cret@host/u.data", "is an address: give the path"),
        ("RATINGS", "books.csv", "is books.csv, a table: give the path of a .yaml file"),
        ("WEBHOOK", "hooks.example/s3cret", "is no address that begins with http:// or https://"),
    ],
)
def test_what_cannot_be_is_refused_by_the_name_of_its_variable(name, value, message):
    with pytest.raises(DeploymentError, match=message) as refusal:
        Deployment.of({f"CF_PIPELINE_{name}": value})
    assert str(refusal.value).startswith(f"CF_PIPELINE_{name} ")
    assert "s3cret" not in str(refusal.value)


def deployed(path: Path, said: object) -> Deployment:
    path.write_text(said if isinstance(said, str) else yaml.safe_dump(said))
    return Deployment.of({"CF_PIPELINE_RATINGS": str(path)})


@pytest.mark.parametrize(
    ("said", "dataset"),
    [
        ({"custom": {"path": "r.csv", "rating": None}}, "custom"),
        ({"synthetic": {"n_ratings": 5000}}, "synthetic"),
        ({"sources": ["/data"]}, "ml-100k"),
        ({"dataset": "ml-1m", "sources": ["/data"]}, "ml-1m"),
    ],
)
def test_a_file_of_config_is_taken_as_it_is_and_tells_the_dataset(tmp_path, said, dataset):
    assert deployed(tmp_path / "r.yaml", said).archive == {"dataset": dataset, **said}


@pytest.mark.parametrize(
    ("said", "cause"),
    [
        ({"custom": {"path": "r.csv", "itme": "book"}}, "custom.itme: Extra inputs are not"),
        ({"custom": {"path": "r.csv", "movies": {"titel": "t"}}}, "custom.movies.titel: Extra"),
        ({"custom": {"user": "reader"}}, "custom.path: Field required"),
        ({"custom": {"path": "r.csv", "scale": [5, 1]}}, "custom: .*lowest rating, then the high"),
        ({"synthetic": {"n_rating": 5000}}, "synthetic.n_rating: Extra inputs are not permitted"),
        ({"datasets": "ml-1m"}, "datasets: Extra inputs are not permitted"),
        ({"dataset": "ml-3m"}, "dataset: Input should be 'ml-100k', "),
        ({"dataset": "custom"}, "say under custom where the ratings are"),
        ({"custom": {"path": "r.csv"}, "synthetic": {}}, "say the dataset, and what it takes"),
        ({}, "say the dataset"),
        ("- s3cret", "Input should be a valid dictionary"),
        ("custom:\n  path: s3://me:s3cret@host/%\n :", "cannot be read: .* in line 3$"),
        ("custom: {path: 's3://me:s3cret@host/x.csv}", "cannot be read: .* in line 1$"),
    ],
)
def test_a_file_of_config_that_cannot_be_is_refused(tmp_path, said, cause):
    with pytest.raises(DeploymentError, match=cause) as refusal:
        deployed(tmp_path / "r.yaml", said)
    assert str(refusal.value).startswith(f"CF_PIPELINE_RATINGS is {tmp_path / 'r.yaml'}, which ")
    assert "s3cret" not in str(refusal.value)


def test_ratings_that_arrive_in_a_folder_are_what_a_plain_run_takes(tmp_path, archive):
    folder = tmp_path / "arriving"
    shutil.copytree(archive, folder)
    project = Project(tmp_path / "project", archive)
    project.environment["CF_PIPELINE_RATINGS"] = str(folder)
    plain: Config = {"movielens_archive": {}}  # whose sources are the default
    made = project.cache("*train_test_split", plain)
    assert made == dict.fromkeys(["movielens_archive", "ratings", "train_test_split"], "miss")
    assert project.metadata("movielens_archive")["source"] == str(folder)
    split = project.metadata("train_test_split")
    assert (split["strategy"], split["test_rows"]) == ("temporal", 943 * 10)


def test_a_variable_that_cannot_be_stops_a_run_with_its_name(tmp_path, archive):
    project = Project(tmp_path / "project", archive)
    project.environment["CF_PIPELINE_RETRAINING_CRON"] = "daily"
    run = project.materialize("movielens_archive")
    assert run.returncode == 1
    assert "CF_PIPELINE_RETRAINING_CRON is 'daily', which is no cron expression" in run.output


def test_ratings_that_no_longer_arrive_are_warned_of(tmp_path, archive):
    arriving = tmp_path / "arriving"
    arriving.mkdir()
    project = Project(tmp_path / "project", archive).with_variables(
        {"CF_PIPELINE_RATINGS": str(arriving)}
    )
    for days, passed in ((8, False), (2, True)):
        at = int(time.time()) - days * 86_400
        (arriving / "u.data").write_text(f"1\t2\t3\t{at}\n")
        run = project.materialize("*ratings", {"movielens_archive": {}})
        assert run.returncode == 0, run.output
        with project.instance() as instance:
            records = instance.get_records_for_run(
                instance.get_runs(limit=1)[0].run_id,
                of_type=dg.DagsterEventType.ASSET_CHECK_EVALUATION,
            ).records
        checks = [record.event_log_entry.asset_check_evaluation for record in records]
        (found,) = (check for check in checks if check and check.check_name == "ratings_are_recent")
        assert (found.passed, found.metadata["days"].value) == (passed, days)


def test_the_published_ratings_are_old_and_nothing_warns_of_that():
    names = {key.name for key in defs.resolve_asset_graph().asset_check_keys}
    assert "ratings_have_no_duplicates" in names
    assert "ratings_are_recent" not in names
