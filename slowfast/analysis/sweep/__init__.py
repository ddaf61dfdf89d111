"""Sweeps: runs of several configurations and seeds, and tables and plots of their results."""
