"""The HTTP edge: the API, the page, access checks and metrics."""
