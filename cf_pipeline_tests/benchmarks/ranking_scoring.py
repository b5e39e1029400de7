"""The part of the benchmark `ranking` that makes many lists, which has a process of its own."""

from functools import partial

import torch
from torch import Tensor

from cf_pipeline.recommender.settings import GibbsSettings, RankingSettings
from cf_pipeline.recommender.top_items import SCORES_AT_ONCE, Seen, top_items
from cf_pipeline_tests.benchmarks.scale_process import Figures, seconds_of

USERS, ITEMS, SEEN, BEST = 100_000, 50_000, 100, 20
WIDTH = RankingSettings().n_factors + GibbsSettings().n_factors + 1
GROUP = 10_000


def scoring() -> Figures:
    """Make synthetic lists, a group of users after the other.

    Returns:
        Each group's `product_seconds`, of the product alone, and `list_seconds`.
    """
    generator = torch.Generator().manual_seed(0)
    users, items = (torch.randn(n, WIDTH, generator=generator) for n in (USERS, ITEMS))
    rows, columns = (
        torch.randint(1, n, (SEEN * USERS,), dtype=torch.int32, generator=generator)
        for n in (USERS, ITEMS)
    )
    seen = Seen.of(rows, columns, USERS)
    size = SCORES_AT_ONCE // ITEMS  # as many users at once as `top_items` takes

    def product(some: Tensor) -> None:
        for block in some.split(size):
            block @ items.T

    products, lists = [], []
    for group in torch.arange(USERS).split(GROUP):
        some, of_some = users[group], seen.take(group)
        products.append(seconds_of(partial(product, some)))
        lists.append(seconds_of(partial(top_items, some, items, of_some, BEST)))
    return {"product_seconds": products, "list_seconds": lists}
