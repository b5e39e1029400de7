"""What may be wrong with the files of models and a posterior, and what the refusal must say.

`attempt` needs no pytest, so that a benchmark can go through FAULTS as the tests do.
Those of vocabularies are in `vocabulary_faults`.
"""

import math
from pathlib import Path

import torch
from torch import Tensor

from cf_pipeline.recommender.factor_model import FactorModel, ModelFileError
from cf_pipeline.recommender.posterior import Posterior
from cf_pipeline.recommender.posterior_files import PosteriorFileError
from cf_pipeline.recommender.ranking_model import RankingModel
from cf_pipeline_tests.recommender.damages import (
    Damage,
    ModelFault,
    cut,
    longer,
    with_entries,
    with_header,
    with_tensors,
    without,
    written,
)
from cf_pipeline_tests.recommender.escaped import EscapedError, told
from cf_pipeline_tests.recommender.simulation import some_posterior
from cf_pipeline_tests.recommender.some_models import MOVIES, USERS, some_ranking_model
from cf_pipeline_tests.recommender.vocabulary_faults import VOCABULARIES


def attempt(fault: ModelFault, folder: Path) -> str:
    """Return the error with which such files are refused, in an empty `folder`.

    Raises:
        EscapedError: they were not refused, or not with the right message.
    """
    some_ranking_model().save(folder, USERS, MOVIES)
    some_posterior().save(folder)
    fault.damage(folder)
    try:
        FactorModel.load(folder)
        Posterior.load(folder)
        RankingModel.load(folder)
    except (ModelFileError, PosteriorFileError) as error:
        told(str(error), str(folder))
        told(str(error), f"Materialize {fault.asset} again")
        return told(str(error), fault.text)
    raise EscapedError("they were loaded")


def with_tables(**tables: Tensor | None) -> Damage:
    """Return the damage that puts these tables among the model's; None takes one out."""
    return with_tensors("model", {f"{name}.weight": table for name, table in tables.items()})


def with_samples(**tensors: Tensor | None) -> Damage:
    """Return the damage that puts these tensors among the posterior's; None takes one out."""
    return with_tensors("posterior", tensors)


def with_factors(**tensors: Tensor | None) -> Damage:
    """Return the damage that puts these tensors among the ranking model's; None takes one out."""
    return with_tensors("ranking", tensors)


def with_shape(**changed: object) -> Damage:
    return with_entries("model.json", changed)


def with_ranking(**changed: object) -> Damage:
    return with_entries("ranking.json", changed)


MODEL = [
    ModelFault("no shape", without("model.json"), "model.json"),
    ModelFault("no weights", without("model.safetensors"), "model.safetensors"),
    ModelFault("a shape cut short", cut("model.json"), "Invalid JSON"),
    ModelFault("weights cut short", cut("model.safetensors"), "not fully covered"),
    ModelFault("a shape without entries", written("model.json", "{}"), "7 validation errors"),
    ModelFault("a list as a shape", written("model.json", "[]"), "should be an object"),
    ModelFault("-1 factors", with_shape(n_factors=-1), "greater than"),
    ModelFault("a range to NaN", with_shape(y_range=[0, "NaN"]), "finite number"),
    ModelFault("no digest", with_shape(user_vocabulary_sha256=None), "valid string"),
    ModelFault("a billion users", with_shape(n_users=10**9), "less than or equal to 134217728"),
    ModelFault("10^18 factors", with_shape(n_factors=10**18), "but weights of 5 users and 4 items"),
    ModelFault("10^4000 users", written("model.json", f'{{"n_users": 1{"0" * 4000}}}'), "n_users"),
    ModelFault("a shape of 20 GB", longer("model.json"), "model.json has more than 65,536 bytes"),
    ModelFault("brackets in brackets", written("model.json", "[" * 60_000), "recursion limit"),
    ModelFault("a table too few", with_tables(item_bias=None), "should have the tables"),
    ModelFault("a table too many", with_tables(item_age=torch.ones(4, 1)), "item_age.weight"),
    ModelFault("a row too few", with_tables(item_bias=torch.ones(3, 1)), "'(3, 1) torch.float32'"),
    ModelFault("half precision", with_tables(user_bias=torch.ones(5, 1).half()), "torch.float16"),
    ModelFault("NaN", with_tables(user_bias=torch.full((5, 1), math.nan)), "is not finite"),
    ModelFault("infinity", with_tables(item_bias=torch.full((4, 1), math.inf)), "is not finite"),
    ModelFault("weights of 20 GB", longer("model.safetensors"), "20,000,000,000 bytes"),
    ModelFault(
        "weights of which the header is no JSON",
        with_header("model.safetensors", b"{" * 100),
        "deserializing header",
    ),
    ModelFault(
        "weights that say they are elsewhere",
        with_header(
            "model.safetensors",
            b'{"user_bias.weight":{"dtype":"F32","shape":[5,1],"data_offsets":[0,99999999999]}}',
        ),
        "deserializing header",
    ),
]
POSTERIOR = [
    ModelFault("no kind", without("posterior.json"), "posterior.json"),
    ModelFault("no samples", without("posterior.safetensors"), "posterior.safetensors"),
    ModelFault("a kind cut short", written("posterior.json", '{"ord'), "Invalid JSON"),
    ModelFault("samples cut short", cut("posterior.safetensors"), "not fully covered"),
    ModelFault("a kind without entries", written("posterior.json", "{}"), "Field required"),
    ModelFault("a list as a kind", written("posterior.json", "[]"), "should be an object"),
    ModelFault(
        "a kind in words",
        written("posterior.json", '{"ordinal": "no"}'),
        "should be a valid boolean",
    ),
    ModelFault("a kind of 20 GB", longer("posterior.json"), "has more than 1,024 bytes"),
    ModelFault("samples of 20 GB", longer("posterior.safetensors"), "not fully covered"),
    ModelFault("a tensor too few", with_samples(edges=None), "edges"),
    ModelFault("a tensor too many", with_samples(age=torch.ones(1)), "age"),
    ModelFault(
        "a sample too few", with_samples(mean=torch.ones(5)), "(6,), but is torch.float32 (5,)"
    ),
    ModelFault(
        "another width", with_samples(item_weights=torch.ones(6, 10, 4)), "float32 (6, 10, 4)"
    ),
    ModelFault("a level too few", with_samples(levels=torch.arange(4.0)), "(6, 3), but is"),
    ModelFault(
        "samples in half precision", with_samples(user_precision=torch.ones(6, 8).half()), "float16"
    ),
    ModelFault("a mean of NaN", with_samples(mean=torch.full((6,), math.nan)), "mean of the"),
    ModelFault("infinite edges", with_samples(edges=torch.full((6, 4), math.inf)), "edges of the"),
    ModelFault("users without shape", with_samples(user_weights=torch.tensor(1.0)), "user_weights"),
    ModelFault("items without shape", with_samples(item_weights=torch.tensor(1.0)), "item_weights"),
    ModelFault("levels without shape", with_samples(levels=torch.tensor(1.0)), "levels of the"),
    ModelFault(
        "not one sample",
        with_samples(
            user_weights=torch.ones(0, 8, 3),
            item_weights=torch.ones(0, 10, 3),
            mean=torch.ones(0),
            user_precision=torch.ones(0, 8),
            edges=torch.ones(0, 4),
        ),
        "(1, 8, 3), but is torch.float32 (0, 8, 3)",
    ),
    ModelFault("a precision of 0", with_samples(user_precision=torch.zeros(6, 8)), "be positive"),
    ModelFault(
        "levels upside down", with_samples(levels=torch.arange(5.0, 0, -1)), "levels of the"
    ),
    ModelFault(
        "edges upside down",
        with_samples(edges=torch.arange(4.0, 0, -1).repeat(6, 1)),
        "should ascend",
    ),
]
RANKING = [
    fault._replace(asset="ranking_model")
    for fault in (
        ModelFault("no weight", without("ranking.json"), "ranking.json"),
        ModelFault("no factors", without("ranking.safetensors"), "ranking.safetensors"),
        ModelFault("a weight cut short", cut("ranking.json"), "Invalid JSON"),
        ModelFault("factors cut short", cut("ranking.safetensors"), "not fully covered"),
        ModelFault("a weight without entries", written("ranking.json", "{}"), "3 validation error"),
        ModelFault("a list as a weight", written("ranking.json", "[]"), "should be an object"),
        ModelFault("more brackets", written("ranking.json", "[" * 60_000), "recursion limit"),
        ModelFault("a weight of NaN", with_ranking(weight=math.nan), "finite number"),
        ModelFault("no spread of ratings", with_ranking(rating_std=0), "greater than"),
        ModelFault("an infinite spread", with_ranking(rating_std=math.inf), "finite number"),
        ModelFault("no settings", with_ranking(settings=None), "settings"),
        ModelFault("a negative pull", with_ranking(settings={"regularization": -1}), "than 0"),
        *(
            ModelFault(f"infinite {name}", with_ranking(settings={name: math.inf}), "finite number")
            for name in ("confidence", "regularization", "feature_regularization")
        ),
        ModelFault(
            "10^18 factors of choice", with_ranking(settings={"n_factors": 10**18}), "factors make"
        ),
        ModelFault(
            "factors of another fit", with_ranking(settings={"n_factors": 5}), "(4, 5), but"
        ),
        ModelFault(
            "a weight of 20 GB", longer("ranking.json"), "ranking.json has more than 65,536 bytes"
        ),
        ModelFault("factors of 20 GB", longer("ranking.safetensors"), "20,000,000,000 bytes"),
        ModelFault(
            "factors of which the header is no JSON",
            with_header("ranking.safetensors", b"{" * 100),
            "deserializing header",
        ),
        ModelFault(
            "factors that say they are elsewhere",
            with_header(
                "ranking.safetensors",
                b'{"user_factors":{"dtype":"F32","shape":[5,4],"data_offsets":[0,99999999999]}}',
            ),
            "deserializing header",
        ),
        ModelFault(
            "factors under another name",
            with_factors(item_factors=None, factors=torch.ones(4, 4)),
            "factors should be finite float32 None",
        ),
        ModelFault("factors too many", with_factors(age=torch.ones(1)), "age should be finite"),
        ModelFault(
            "factors in another shape",
            with_factors(item_factors=torch.ones(2, 8)),
            "(4, 4), but is torch.float32 (2, 8)",
        ),
        ModelFault(
            "factors in half precision",
            with_factors(user_factors=torch.ones(5, 4).half()),
            "torch.float16",
        ),
        ModelFault(
            "factors of NaN",
            with_factors(user_factors=torch.full((5, 4), math.nan)),
            "user_factors should be finite",
        ),
        ModelFault(
            "infinite factors",
            with_factors(item_factors=torch.full((4, 4), math.inf)),
            "item_factors should be finite",
        ),
    )
]
FAULTS = MODEL + VOCABULARIES + POSTERIOR + RANKING
