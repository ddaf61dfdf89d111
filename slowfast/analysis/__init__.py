"""Looking at networks and runs: parity with published numbers, speed, tables."""
