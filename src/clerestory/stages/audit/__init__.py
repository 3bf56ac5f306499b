"""Examine a dataset before it teaches or measures anything."""
