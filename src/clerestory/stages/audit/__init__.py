"""Check a dataset before it is used to train or evaluate a model."""
