"""A clip as data: decoding, sampling, augmentation, normalisation."""
