"""Mutation testing: small faults put into a copy of the package, and whether tests notice them."""
