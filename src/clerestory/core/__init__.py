"""The nouns, their digests, the error tree and the registry of extensions. Imports nothing heavy."""
