"""What answers requests, without HTTP: the bounded queue in front of the model, its batches, and their limits."""
