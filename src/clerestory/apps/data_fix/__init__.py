"""Fixing a dataset: from the findings of an audit to a plan, a new version and its differences.

``rules`` says which fix belongs to which finding, ``splits`` moves copies to one split, ``plan`` decides for every
sample, ``apply`` makes the new dataset, ``write`` puts it on the disk, ``run`` does all of it and records it.
"""
