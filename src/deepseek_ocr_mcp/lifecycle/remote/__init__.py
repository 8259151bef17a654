"""Servers elsewhere that read pages."""
