"""Released weights: reading, recognising, converting, reporting."""
