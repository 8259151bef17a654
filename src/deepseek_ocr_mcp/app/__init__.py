"""Starts and stops the program: makes a service of the settings, and puts its edges in front of it."""
