"""Writes documents from readings: Word and searchable PDF."""
