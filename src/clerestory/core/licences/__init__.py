"""Licences: what an expression grants and asks for, under a policy, along the chain from data to output.

Not legal advice. ``docs/explanation/licences.md`` says how it decides.
"""
