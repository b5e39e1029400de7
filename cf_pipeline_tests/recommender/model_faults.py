"""What may be wrong with the files of models and a posterior, and what the refusal must say.

`attempt` needs no pytest, so that a benchmark can go through FAULTS as the tests do.
"""

import json
import math
import os
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

import pyarrow as pa
import pyarrow.parquet as pq
import torch
from safetensors.torch import load_file, save_file
from torch import Tensor

from cf_pipeline.recommender.factor_model import FactorModel, ModelFileError
from cf_pipeline.recommender.implicit_als import ImplicitFactors
from cf_pipeline.recommender.posterior import Posterior
from cf_pipeline.recommender.posterior_files import PosteriorFileError
from cf_pipeline.recommender.ranking_model import RankingModel
from cf_pipeline.recommender.settings import RankingSettings
from cf_pipeline.recommender.vocabulary import Vocabulary
from cf_pipeline_tests.recommender.escaped import EscapedError, told
from cf_pipeline_tests.recommender.simulation import some_posterior

N_USERS, N_ITEMS, N_FACTORS = 5, 4, 3
USERS, MOVIES = Vocabulary.of([3, 7, 20, 500]), Vocabulary.of([1, 2, 900])

Damage = Callable[[Path], object]


class ModelFault(NamedTuple):
    """`damage` spoils a folder in which `some_ranking_model` and `some_posterior` were saved.

    The refusal says `text`, and to materialize the `asset` again.
    """

    name: str
    damage: Damage
    text: str
    asset: str = "factor_model"


def some_model(bias: bool = True) -> FactorModel:
    """Return a model of 5 users and 4 items, the unknown ones counted."""
    torch.manual_seed(0)
    return FactorModel(N_USERS, N_ITEMS, N_FACTORS, (0.5, 5.25), bias)


def some_ranking_model(bias: bool = True) -> RankingModel:
    """Return a ranking model above `some_model`, which is saved with it."""
    generator = torch.Generator().manual_seed(2)
    users, items = (torch.randn(n, 4, generator=generator) for n in (N_USERS, N_ITEMS))
    settings = RankingSettings(n_factors=4, confidence=7.5, regularization=0.3)
    return RankingModel(some_model(bias), ImplicitFactors(users, items), 0.14, 0.9, settings)


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


# --- ways to damage a file


def without(name: str) -> Damage:
    return lambda folder: (folder / name).unlink()


def cut(name: str) -> Damage:
    return lambda folder: os.truncate(folder / name, (folder / name).stat().st_size - 20)


def longer(name: str) -> Damage:
    """Make a file 20 GB long, which takes no room on the disk."""
    return lambda folder: os.truncate(folder / name, 20 * 10**9)


def written(name: str, content: str) -> Damage:
    return lambda folder: (folder / name).write_text(content)


def with_tables(**tables: Tensor | None) -> Damage:
    """Return the damage that puts these tables among the model's; None takes one out."""
    return with_tensors("model", {f"{name}.weight": table for name, table in tables.items()})


def with_samples(**tensors: Tensor | None) -> Damage:
    """Return the damage that puts these tensors among the posterior's; None takes one out."""
    return with_tensors("posterior", tensors)


def with_factors(**tensors: Tensor | None) -> Damage:
    """Return the damage that puts these tensors among the ranking model's; None takes one out."""
    return with_tensors("ranking", tensors)


def with_tensors(kind: str, tensors: dict[str, Tensor | None]) -> Damage:
    def damage(folder: Path) -> None:
        path = folder / f"{kind}.safetensors"
        held = load_file(path) | tensors
        save_file({name: tensor for name, tensor in held.items() if tensor is not None}, path)

    return damage


def with_shape(**changed: object) -> Damage:
    return with_entries("model.json", changed)


def with_ranking(**changed: object) -> Damage:
    return with_entries("ranking.json", changed)


def with_entries(name: str, changed: dict[str, object]) -> Damage:
    def damage(folder: Path) -> None:
        held = json.loads((folder / name).read_text())
        (folder / name).write_text(json.dumps(held | changed))

    return damage


def with_header(name: str, header: bytes) -> Damage:
    """Return the damage that gives a file another header, and leaves it as long as it is."""

    def damage(folder: Path) -> None:
        size = (folder / name).stat().st_size
        content = len(header).to_bytes(8, "little") + header
        (folder / name).write_bytes(content.ljust(size, b"\0")[:size])

    return damage


def with_user_ids(ids: pa.Array, **options: object) -> Damage:
    def damage(folder: Path) -> None:
        pq.write_table(pa.table({"id": ids}), folder / "user_vocabulary.parquet", **options)

    return damage


def claiming_rows(n_rows: int) -> Damage:
    """Return the damage that makes the footer of the users' vocabulary claim `n_rows`."""

    def damage(folder: Path) -> None:
        path = folder / "user_vocabulary.parquet"
        with_user_ids(pa.nulls(123_456, pa.int64()))(folder)
        data = path.read_bytes()
        start = len(data) - 8 - int.from_bytes(data[-8:-4], "little")
        footer = data[start:-8].replace(_varint(123_456), _varint(n_rows))
        path.write_bytes(data[:start] + footer + len(footer).to_bytes(4, "little") + b"PAR1")

    return damage


def _varint(number: int) -> bytes:
    """Return a positive number as Thrift's compact protocol writes it."""
    number *= 2
    parts = []
    while number > 127:
        parts.append(number & 127 | 128)
        number >>= 7
    return bytes([*parts, number])


def _swapped(folder: Path) -> None:
    MOVIES.save(folder / "user_vocabulary.parquet")
    USERS.save(folder / "movie_vocabulary.parquet")


def _overwritten(folder: Path) -> None:
    path = folder / "user_vocabulary.parquet"
    data = path.read_bytes()
    path.write_bytes(data[:4] + bytes(30) + data[34:])


# --- the faults

MODEL = [
    ModelFault("no shape", without("model.json"), "model.json"),
    ModelFault("no weights", without("model.safetensors"), "model.safetensors"),
    ModelFault("no vocabulary", without("user_vocabulary.parquet"), "user_vocabulary.parquet"),
    ModelFault("a shape cut short", cut("model.json"), "Invalid JSON"),
    ModelFault("weights cut short", cut("model.safetensors"), "not fully covered"),
    ModelFault("a vocabulary cut short", cut("movie_vocabulary.parquet"), "is not a vocabulary"),
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
    ModelFault("swapped vocabularies", _swapped, "It has 5 rows, and may have 4"),
    ModelFault(
        "a vocabulary of one id less",
        lambda folder: MOVIES.save(folder / "user_vocabulary.parquet"),
        "5 rows for users, but the user vocabulary has 4",
    ),
    ModelFault(
        "a vocabulary of other ids",
        lambda folder: Vocabulary.of([1, 2, 901]).save(folder / "movie_vocabulary.parquet"),
        "fitted with another movie vocabulary",
    ),
    ModelFault(
        "a vocabulary of one id more",
        lambda folder: Vocabulary.of(range(5)).save(folder / "user_vocabulary.parquet"),
        "has 6 rows, and may have 5",
    ),
    ModelFault(
        "a vocabulary claiming a billion ids", claiming_rows(10**9), "has 1,000,000,000 rows"
    ),
    ModelFault(
        "a vocabulary that expands to 5 million ids",
        with_user_ids(pa.repeat(pa.scalar(7, pa.int64()), 5_000_000), row_group_size=5_000_000),
        "has 5,000,000 rows",
    ),
    ModelFault(
        "a vocabulary of 20 GB", longer("user_vocabulary.parquet"), "more than 65,856 bytes"
    ),
    ModelFault(
        "an id of a megabyte", with_user_ids(pa.array([None, "x" * 10**6])), "An id has 1,000,000"
    ),
    ModelFault(
        "an id of 20 MB that takes a kilobyte",
        with_user_ids(pa.array([None, "x" * (20 << 20)]), compression="zstd"),
        "is compressed by {'ZSTD'}",
    ),
    ModelFault(
        "an id that is a list of a million",
        with_user_ids(pa.array([[7] * 10**6])),
        "Its ids are list<",
    ),
    *(
        ModelFault(
            f"ids that are {kind}",
            with_user_ids(pa.array([None, b"x" * 10**6]).cast(kind)),
            f"Its ids are {kind}",
        )
        for kind in (pa.binary(), pa.large_binary(), pa.large_string(), pa.string_view())
    ),
    ModelFault(
        "ids that are words of a dictionary",
        with_user_ids(pa.array([None, "x" * 10**6]).dictionary_encode()),
        "Its ids are dictionary<",
    ),
    ModelFault("a vocabulary partly overwritten", _overwritten, "is not a vocabulary"),
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
FAULTS = MODEL + POSTERIOR + RANKING
