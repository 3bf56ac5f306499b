"""Watch embeddings, inputs and answers for drift; see ``clerestory.stats.drift``."""
