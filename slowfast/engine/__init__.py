"""Training and testing, for any task."""
