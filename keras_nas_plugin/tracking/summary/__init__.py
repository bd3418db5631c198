"""Summaries of a search from its records: leaderboard, correlations, hypervolume, note."""
