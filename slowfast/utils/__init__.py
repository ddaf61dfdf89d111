"""Registry, errors, logging, files, devices, processes."""
