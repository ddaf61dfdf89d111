"""Code of a paper: importing the package registers all of it."""

from mypaper import data, model, training  # noqa: F401
