"""The results of a search: loading, retraining and registering the models of its trials."""
