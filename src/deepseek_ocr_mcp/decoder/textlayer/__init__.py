"""The text that a PDF page holds itself."""
