"""The domain types, their digests, the contracts between stages, and the errors. Imports nothing heavy."""
