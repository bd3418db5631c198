"""A search, its trials and its retrained models as plain data that outlives the process."""
