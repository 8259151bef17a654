"""Runs objects in child processes."""
