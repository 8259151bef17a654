"""Keeps track of the place of the model, and moves it."""
