"""Follow the licences of everything that a model was made from to the model and its output."""
