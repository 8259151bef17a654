"""MCP and HTTP: translators between the outside and `OcrService`."""
