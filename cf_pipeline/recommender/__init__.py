"""The field's own code in plain pandas, pyarrow and torch: for a notebook too, without Dagster."""
