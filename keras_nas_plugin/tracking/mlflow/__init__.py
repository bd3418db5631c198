"""A search in MLflow: one run per trial, below one for the search."""
