"""Names, near names and the keys whose choices a registry is."""

from __future__ import annotations

import pytest

from slowfast.utils.errors import UserError
from slowfast.utils.registry import Registry


@pytest.fixture
def animals(monkeypatch):
    monkeypatch.setattr(Registry, "by_key", dict(Registry.by_key))
    registry: Registry[str] = Registry("animal", "A.KEY / B.KEY", ignore_case=True)
    registry.register("Horse")("neighs")
    registry.register("Sheep")("bleats")
    return registry


def test_keys_name_their_registry(animals):
    assert Registry.by_key["A.KEY"] is animals and Registry.by_key["B.KEY"] is animals
    assert "" not in Registry.by_key


def test_names(animals):
    assert animals.get("horse") == "neighs" and "SHEEP" in animals and "cow" not in animals
    with pytest.raises(UserError, match="A.KEY / B.KEY: no animal is called 'Shep'") as caught:
        animals.get("Shep")
    assert caught.value.problems[0].remedy == "did you mean Sheep?"
    with pytest.raises(UserError, match="known: Horse, Sheep"):
        animals.get("zebra")
