"""`deepseek-ocr-mcp batch`: a folder of any size, read by the workers of a Ray cluster. Needs the `[ray]` extra."""
