"""What this product does: a request is admitted, read and answered."""
