"""Reads scripts that the embedded models lack, with Tesseract. Only a worker process imports this package."""
