"""Training: the context and session of a search, and how a trial is built and trained."""
