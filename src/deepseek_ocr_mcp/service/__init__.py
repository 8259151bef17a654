"""The service: it admits a request, reads its document and answers."""
