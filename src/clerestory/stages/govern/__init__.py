"""Governance: catalogues of requirements, answered by verifiers that run again and by statements of people."""
