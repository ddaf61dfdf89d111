"""Decoders behind one interface: PyAV, torchcodec, folders of images."""
