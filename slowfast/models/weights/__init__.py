"""Released weights: read, recognise, convert, report."""
