"""Reads pages with servers elsewhere."""
