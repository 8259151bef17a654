"""Decodes documents in a child process. The parent process never imports this package."""
