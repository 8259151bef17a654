"""Starts and stops the program: settings become a service, the service gets its edges."""
