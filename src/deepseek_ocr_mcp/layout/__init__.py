"""Turns lines of text into reading order, tables, Markdown and search hits. Pure Python without dependencies."""
