"""A collaborative-filtering pipeline on Dagster: ratings in, an evaluated factor model out."""
