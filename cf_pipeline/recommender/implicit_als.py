"""Factors that tell what people choose to watch: implicit alternating least squares (iALS).

Whether somebody rated an item, whatever the stars, is 1 or 0, and every pair counts (Hu, Koren &
Volinsky 2008, equation 3; Rendle et al. 2022, equation 7). With features x as prior means, as the
sampler's factors have them (Simm et al. 2017), the factors p_u and q_i minimise

    Σ_rated (1 + α) (1 - p_u·q_i)² + Σ_others (p_u·q_i)² + R_users + R_items
    R_users = Σ_u λ_u |p_u - Bᵀx_u|² + ρ |B|²         λ_u = λ √(n_u + 1), n_u the user's ratings

and R_items alike with a B of its own. Each of users, B, items, B in turn is the exact minimum given
all others, so the objective never rises.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

import torch

from cf_pipeline.recommender.budget import both_sides
from cf_pipeline.recommender.checkpoints import Checkpoints, checksum
from cf_pipeline.recommender.draws import normal
from cf_pipeline.recommender.executors import LOCAL, BlockError
from cf_pipeline.recommender.features import low_rank_features

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from torch import Tensor

    from cf_pipeline.recommender.blocks import Blocks
    from cf_pipeline.recommender.executors import Executor
    from cf_pipeline.recommender.features import SideFeatures
    from cf_pipeline.recommender.minibatches import EncodedRatings
    from cf_pipeline.recommender.moments import Moments
    from cf_pipeline.recommender.rating_sums import RatingSums
    from cf_pipeline.recommender.settings import RankingSettings

INITIAL_STD = 0.1
ITERATIONS_BETWEEN_LINES = 4


class ImplicitFactors(NamedTuple):
    """Factors of `users` (n_users, n_factors) and `items` (n_items, n_factors).

    The unknown user, row 0, is the mean of all others; the unknown item is zero.
    """

    users: Tensor
    items: Tensor


def fit(
    train: EncodedRatings,
    side: SideFeatures,
    settings: RankingSettings,
    log: Callable[[str], None] = lambda _: None,
    executor: Executor = LOCAL,
    folder: Path | None = None,
) -> ImplicitFactors:
    """Fit by alternating least squares, on the device where the ratings are.

    Factors are reproducible for `settings.seed`, whatever the `executor`: bit for bit on a CPU, and
    on a GPU as far as its sparse products are. In `folder`, if any, is written down where the fit
    stands, and from there it goes on.

    Raises:
        BlockError: a block of ratings cannot be worked on.
        FloatingPointError: the regularization is too small beside the rest.
    """
    generator = torch.Generator(train.ratings.device).manual_seed(settings.seed)
    users, items = sides(train, side, settings, executor)
    items.factors = INITIAL_STD * normal(generator, *items.factors.shape)
    items.factors[0] = 0
    checkpoints, done = None, 0
    if folder:
        about = {"settings": settings.model_dump(), "ratings": len(train.ratings)}
        about |= {"users": len(side.users), "items": len(side.items)}
        about |= {"checksum": checksum(*train, *side)}
        checkpoints = Checkpoints(folder, about, settings.checkpoint_seconds, log)
    if checkpoints and (found := checkpoints.load(train.ratings.device)):
        done, items.factors = found.step, found.tensors["items"]
        users.prior_mean, items.prior_mean = (
            found.tensors[name] for name in ("users_prior", "items_prior")
        )
    for step in range(done + 1, settings.iterations + 1):
        users.solve(items.factors)
        items.solve(users.factors)
        if step % ITERATIONS_BETWEEN_LINES == 0:
            log(f"iteration {step} of {settings.iterations}")
        if checkpoints and checkpoints.due:
            priors = {"users_prior": users.prior_mean, "items_prior": items.prior_mean}
            checkpoints.save(step, {"items": items.factors, **priors}, {})
    users.solve(items.factors)
    users.factors[0] = users.factors[1:].mean(dim=0)
    return ImplicitFactors(users.factors, items.factors)


class Side:
    """The users or the items: their factors (n, n_factors), and the factors' prior."""

    def __init__(
        self, met: Blocks, met_by: Blocks, side: Tensor, settings: RankingSettings
    ) -> None:
        """Take who rated what, by this side's rows and by the other's, and side features."""
        features = low_rank_features(met, met_by, side, settings.feature_rank, settings.seed)
        self.factors = features.new_zeros(len(side), settings.n_factors)
        self.penalty = row_penalty(met.counts, settings)
        self.prior_mean = torch.zeros_like(self.factors)  # XB
        self._features = features
        weighted = features.T * self.penalty
        ridge = settings.feature_regularization * torch.eye(len(weighted), device=features.device)
        self._regression = torch.linalg.solve(weighted @ features + ridge, weighted)
        self._confidence = settings.confidence
        self._met = met

    def solve(self, others: Tensor) -> None:
        """Set all factors to their minimum given the other side's, and then B to its own."""
        own = self.penalty, self.prior_mean
        gram = others.T @ others
        try:
            for rows, factors in self._met.map(solve_block, own, others, gram, self._confidence):
                self.factors[rows] = factors
        except BlockError as error:
            if isinstance(error.__cause__, FloatingPointError):
                raise error.__cause__ from error
            raise
        self.prior_mean = self._features @ (self._regression @ self.factors)


def solve_block(
    sums: RatingSums,
    _: int,
    penalty: Tensor,
    prior_mean: Tensor,
    others: Tensor,
    gram: Tensor,
    confidence: float,
) -> Tensor:
    """Return the factors (n_rows, d) of a block's rows at their minimum; see `normal_equations`.

    `others` (n_columns, d) are the other side's factors, `penalty` (n_rows,) and `prior_mean`
    (n_rows, d) the rows' own.

    Raises:
        FloatingPointError: the penalty is too small beside the rest.
    """
    factors = torch.empty_like(prior_mean)
    for rows, moments in sums.moments(others, torch.zeros_like(others[:, 0])):
        root, linear = normal_equations(moments, gram, confidence, penalty[rows], prior_mean[rows])
        factors[rows] = torch.cholesky_solve(linear, root).squeeze(2)
    return factors


def sides(
    train: EncodedRatings, side: SideFeatures, settings: RankingSettings, executor: Executor = LOCAL
) -> tuple[Side, Side]:
    """Return the users and the items, before anything is fitted."""
    sizes = len(side.users), len(side.items)
    users, items = both_sides(train, *sizes, settings, with_values=False, executor=executor)
    return Side(users, items, side.users, settings), Side(items, users, side.items, settings)


def row_penalty(counts: Tensor, settings: RankingSettings) -> Tensor:
    """Return λ √(n + 1) for rows of n ratings; the power ½ as in Rendle et al. 2022, section 4."""
    return settings.regularization * (counts + 1.0).sqrt()


def normal_equations(
    rated: Moments, gram: Tensor, confidence: float, penalty: Tensor, prior_mean: Tensor
) -> tuple[Tensor, Tensor]:
    """Return what n rows' factors solve: Cholesky roots (n, d, d), and linear terms (n, d, 1).

    `rated` are the moments of what each row rated, of the value 1; `gram` (d, d) is that of all of
    the other side; `penalty` (n,) and `prior_mean` (n, d) are the rows' priors. The equations are
    (QᵀQ + α Q_uᵀQ_u + λ_u I) p_u = (1 + α) Q_uᵀ1 + λ_u Bᵀx_u (Hu, Koren & Volinsky 2008, 4).

    Raises:
        FloatingPointError: the penalty is too small beside the rest.
    """
    own = penalty.unsqueeze(1)
    precision = torch.add(gram, rated.gram, alpha=confidence)
    precision.diagonal(dim1=1, dim2=2).add_(own)
    linear = (1 + confidence) * rated.linear + own * prior_mean
    try:
        root: Tensor = torch.linalg.cholesky(precision)
    except torch.linalg.LinAlgError as error:  # type: ignore[attr-defined]  # not in its __all__
        raise FloatingPointError(
            f"The equations of factors cannot be solved in float32 ({error}): raise "
            "regularization, or lower confidence."
        ) from error
    return root, linear.unsqueeze(2)
