"""The child process and the parent's handle on it."""
