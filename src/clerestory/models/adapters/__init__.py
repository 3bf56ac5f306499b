"""Adapters from other people's models to the protocols, selected by capability and not by name."""
