"""Adapters of other people's models to the protocols, by capability and never by name."""
