"""DeepSeek-OCR on PyTorch. Only a worker process imports this package."""
