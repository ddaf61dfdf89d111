"""What a journal knows of a network."""

from __future__ import annotations

import os

import pytest

from slowfast.inference import network as module
from slowfast.inference.network import Network


@pytest.fixture
def files(tmp_path, monkeypatch):
    """A checkpoint, a configuration, names of classes and a support clip."""
    names = {name: str(tmp_path / name) for name in ("net.pyth", "a.yaml", "classes.txt", "c.mp4")}
    for path in names.values():
        with open(path, "w") as file:
            file.write("1")

    class Trained:
        path = names["net.pyth"]

    monkeypatch.setattr(module, "read_trained", lambda checkpoint: Trained)
    return names


def network(files) -> Network:
    support = {"a class": [files["c.mp4"]]}
    return Network(files["net.pyth"], None, files["a.yaml"], files["classes.txt"], support)


def test_options_change_with_the_contents_of_every_file(files):
    before = network(files).options()
    assert network(files).options() == before
    for path in files.values():
        os.utime(path, (1, 1))
        after = network(files).options()
        assert after != before
        before = after


def test_values_and_names_in_place_of_files(files):
    given = Network(files["net.pyth"], None, {"TEST.BATCH_SIZE": 2}, ["left", "right"]).options()
    assert list(given["files"]) == [files["net.pyth"]]
    assert given["cfg"] == {"TEST.BATCH_SIZE": 2} and given["classes"] == ["left", "right"]
