"""The page of a run: one HTML file with figures, tables and videos that opens without a network."""
