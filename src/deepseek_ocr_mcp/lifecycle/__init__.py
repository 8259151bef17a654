"""Where the model is, and who may move it."""
