"""Configuration: sections, files, KEY VALUE words, validation."""
