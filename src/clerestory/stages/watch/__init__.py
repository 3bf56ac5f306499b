"""Watch a model in service: drift, feedback, incidents."""
