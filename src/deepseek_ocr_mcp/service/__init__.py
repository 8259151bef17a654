"""The service admits a request, reads its document and answers."""
