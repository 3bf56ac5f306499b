"""Signatures that others can check: keys, signed statements (DSSE, in-toto), and the verifier of bundles."""
