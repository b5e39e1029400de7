"""Somebody new, of whom a few ratings are known, put into a fitted factor model."""

from __future__ import annotations

import torch
from torch import Tensor

from cf_pipeline.recommender.factor_model import FactorModel, sigmoid_range

STEPS = 20
LENGTHS = 8  # of a step that are tried: 1, ½, ¼, …
LEAST_VARIANCE = 1e-3  # of a factor among the users, relative to the mean one


@torch.no_grad()
def fold_in(model: FactorModel, items: Tensor, ratings: Tensor, rating_std: float) -> FactorModel:
    """Return the model with one more user, the last, who gave `items` (n,) the `ratings` (n,).

    The user's factors and bias w maximise their posterior density, the items' held,

        Σ (r_i - sigmoid_range(w·[q_i, 1] + c_i))² / σ² + (w - m)ᵀ C⁻¹ (w - m)  →  min

    with σ the standard deviation `rating_std` of ratings about predictions, and m and C the mean
    and covariance of the known users' w (empirical Bayes: Efron & Morris 1973), by Gauss-Newton
    steps, each of the length that lowers it most: where the sigmoid is flat, a whole step can lead
    away. `ratings` must lie inside `y_range`.
    """
    low, high = model.y_range
    known = _columns(model, "user")[1:]
    # One user's sums are small: in float64, on a CPU, a step's gain is not lost in rounding.
    of_item = _columns(model, "item")[items].cpu().double()
    ratings = ratings.cpu().double()
    n_factors = model.item_factors.embedding_dim
    # The user's bias meets a 1; the item's bias is added whoever the user is.
    table = torch.cat([of_item[:, :n_factors], torch.ones_like(of_item[:, n_factors:])], dim=1)
    offset = of_item[:, n_factors:].sum(dim=1)
    mean = known.mean(dim=0).cpu().double()
    covariance = torch.atleast_2d(known.T.cov(correction=0)).cpu().double()
    floor = LEAST_VARIANCE * covariance.diagonal().mean().clamp(min=1e-6)
    prior = torch.linalg.inv(covariance + floor * torch.eye(len(mean), device=mean.device))
    lengths = 0.5 ** torch.arange(LENGTHS, device=mean.device).unsqueeze(1)
    weights = mean
    for _ in range(STEPS):
        predicted = sigmoid_range(table @ weights + offset, low, high)
        slope = (predicted - low) * (high - predicted) / (high - low)
        jacobian = slope.unsqueeze(1) * table / rating_std
        linear = jacobian.T @ ((ratings - predicted) / rating_std) - prior @ (weights - mean)
        step = torch.linalg.solve(jacobian.T @ jacobian + prior, linear)
        tried = torch.cat([weights.unsqueeze(0), weights + lengths * step])
        errors = (ratings - sigmoid_range(tried @ table.T + offset, low, high)) / rating_std
        off = tried - mean
        weights = tried[(errors.square().sum(dim=1) + (off @ prior * off).sum(dim=1)).argmin()]
    return _with_user(model, weights.to(known).unsqueeze(0))


def _columns(model: FactorModel, side: str) -> Tensor:
    """Return the factors of users or items, and their bias where there is one."""
    tables = [table.weight for name, table in model.tables().items() if name.startswith(side)]
    return torch.cat(tables, dim=1)


def _with_user(model: FactorModel, weights: Tensor) -> FactorModel:
    state = dict(model.state_dict())
    factors, bias = weights.tensor_split([model.user_factors.embedding_dim], dim=1)
    state["user_factors.weight"] = torch.cat([state["user_factors.weight"], factors])
    if model.bias:
        state["user_bias.weight"] = torch.cat([state["user_bias.weight"], bias])
    n_users, n_factors = state["user_factors.weight"].shape
    with torch.device("meta"):  # the tables are those above
        extended = FactorModel(
            n_users,
            model.item_factors.num_embeddings,
            n_factors,
            model.y_range,
            model.bias,
            model.rating_scale,
        )
    extended.load_state_dict(state, assign=True)
    return extended
