"""Documents about a dataset, each made from the same record: a data sheet and Croissant metadata."""
