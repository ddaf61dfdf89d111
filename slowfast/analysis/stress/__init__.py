"""Campaigns against real runs: each does harm again and again and counts what was handled.

``runs`` starts and watches processes, ``table`` counts; each other file is a kind or several.
"""
