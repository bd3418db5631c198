"""Evaluation of trials: results, costs, constraints and the data they are computed on."""
