"""A head on a frozen encoder, fitted on the user's own captions in seconds."""
