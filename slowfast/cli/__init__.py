"""The `slowfast` command, one module per command; the files in tools/ call the same code."""
