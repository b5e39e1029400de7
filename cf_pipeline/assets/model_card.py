"""The model card: one page for people who have to decide whether to use the models."""

import json
from pathlib import Path
from typing import Any

import dagster as dg

from cf_pipeline.artifacts import Artifact
from cf_pipeline.assets.factor_model import pictures_of
from cf_pipeline.caching import Artifacts, Metadata
from cf_pipeline.code_version import code_version
from cf_pipeline.training_part import load_training_part

CAPTIONS = {
    "factor_map": "Movies by the two directions in which their factors differ most: what the same "
    "people like is near each other",
    "liked_at_equal_popularity": "Movies that are liked more or less than others, by how often "
    "they were rated",
}


@dg.asset(
    group_name="recommendations",
    kinds={"html"},
    io_manager_key="artifacts",
    code_version=code_version(__name__),
)
def model_card(
    context: dg.AssetExecutionContext,
    artifacts: dg.ResourceParam[Artifacts],
    movielens_archive: Artifact,
    train_test_split: Artifact,
    vocabularies: Artifact,
    movies: Artifact,
    users: Artifact,
    factor_model: Artifact,
    ranking_model: Artifact,
    evaluation_metrics: Artifact,
    recommendations: Artifact,
) -> dg.MaterializeResult[Artifact]:
    """One self-contained HTML page on the models: data, method, figures, limits, intended use.

    Open `model_card.html` in a browser, or send it to somebody: it needs nothing beside it.
    """
    inputs = [
        movielens_archive,
        train_test_split,
        vocabularies,
        movies,
        users,
        factor_model,
        ranking_model,
        evaluation_metrics,
        recommendations,
    ]

    def build(directory: Path) -> Metadata:
        import torch

        from cf_pipeline.recommender import card_contents, sources
        from cf_pipeline.recommender.model_card import ModelCard, Picture
        from cf_pipeline.recommender.serving import Recommender
        from cf_pipeline.recommender.splits import read_settings

        part = load_training_part(
            train_test_split, vocabularies, movies, users, torch.device("cpu")
        )
        evaluation = _json(evaluation_metrics, "evaluation_metrics.json")
        recommender = Recommender.load(ranking_model.verified())
        learnt = pictures_of(recommender.model.rating, part)
        ranked = evaluation["ranking"]["ranking_model"]["all"] or {}
        card = ModelCard(
            summary={
                "RMSE, stars": evaluation["rmse"],
                "MAE, stars": evaluation["mae"],
                "NDCG@10 of lists": ranked.get("ndcg_at_10"),
                "recall@10 of lists": ranked.get("recall_at_10"),
            },
            data={
                "ratings": "MovieLens 100k, as it was released"
                if movielens_archive.metadata["matches_release"]
                else "not those of MovieLens 100k as it was released",
                **{
                    f"split: {name}": value
                    for name, value in read_settings(
                        train_test_split.path("train_test_split.parquet")
                    ).items()
                },
                "training_ratings": len(part.rows),
                "test_ratings": evaluation["n_test"],
                "test_ratings_of_unknown_users_or_movies": evaluation["cold"]["count"],
                "users": len(part.users) - 1,
                "movies": len(part.movies) - 1,
                "first_training_rating": part.rows["timestamp"].min().date(),
                "last_training_rating": part.rows["timestamp"].max().date(),
            },
            bias=recommender.model.rating.bias,
            settings={
                "factor_model": _json(factor_model, "settings.json"),
                "ranking_model": recommender.model.settings.model_dump()
                | {"weight of the predicted rating": recommender.model.weight},
            },
            rating=card_contents.rating_tables(evaluation),
            ranking=card_contents.ranking_tables(evaluation),
            examples=card_contents.example_tables(recommender),
            pictures={
                "learnt": [Picture(CAPTIONS[name], png) for name, png in learnt.items()],
                "rating": card_contents.rating_pictures(
                    evaluation, _json(factor_model, "learning_curve.json")
                ),
                "ranking": card_contents.ranking_pictures(
                    evaluation,
                    _json(ranking_model, "weights.json"),
                    recommender,
                    recommendations.path("recommendations.parquet"),
                ),
            },
            licence=sources.LICENCE,
            citation=sources.CITATION,
            made_from={artifact.asset: artifact.data_version for artifact in inputs},
        )
        page = card.html()
        path = directory / "model_card.html"
        path.write_text(page, encoding="utf-8")
        return {"bytes": path.stat().st_size, "pictures": page.count("<img ")}

    return artifacts.materialize(context, build, inputs)


def _json(artifact: Artifact, name: str) -> Any:
    return json.loads(artifact.path(name).read_bytes())
