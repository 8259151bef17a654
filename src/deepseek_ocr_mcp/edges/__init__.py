"""Translates between `OcrService` and its clients over MCP and HTTP."""
