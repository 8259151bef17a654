"""What GPUs there are, and which one a model gets."""
