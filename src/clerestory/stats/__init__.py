"""Metrics, intervals and aggregates. Numbers in, numbers out: no files, no models, no images."""
