claude mcp add deepseek-ocr -- deepseek-ocr-mcp
