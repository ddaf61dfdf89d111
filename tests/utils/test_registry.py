"""Registry: names, near names, what is refused, what is replaced."""

from __future__ import annotations

import pytest
from torch import nn

from slowfast.models import MODEL_REGISTRY, VideoModel
from slowfast.utils.errors import UserError
from slowfast.utils.registry import Registry, near_names


def make_class(name="Thing", module=__name__):
    return type(name, (), {"__module__": module, "__qualname__": name})


def test_a_name_gives_its_object():
    registry = Registry("thing")
    thing = registry.register()(make_class())
    other = registry.register("b")(make_class("Other"))
    assert registry.get("Thing") is thing and registry.get("b") is other
    assert list(registry) == ["Thing", "b"] and len(registry) == 2
    assert "b" in registry and "B" not in registry


def test_case_is_ignored_on_request():
    registry = Registry("thing", ignore_case=True)
    thing = registry.register("TSN")(make_class())
    assert registry.get("tsn") is thing and "Tsn" in registry
    assert registry.names("t*") == ["TSN"]


def test_a_wrong_name_gives_near_ones():
    registry = Registry("thing", "SECTION.KEY")
    for name in ("resnet18", "resnet34", "vit"):
        registry.register(name)(make_class(name))
    with pytest.raises(UserError, match=r"SECTION.KEY: no thing is called 'resnet81'") as caught:
        registry.get("resnet81")
    assert "did you mean resnet18 or resnet34?" in str(caught.value)
    with pytest.raises(UserError, match="known: resnet18, resnet34, vit"):
        registry.get("something else")
    assert registry.problems("vit") == []
    assert [p.key for p in registry.problems("resnet81")] == ["SECTION.KEY"]
    assert near_names("RESNET18", registry) == ["resnet18", "resnet34"]


def test_names_with_wildcards():
    registry = Registry("thing")
    for name in ("b2", "a1", "b1"):
        registry.register(name)(make_class(name))
    assert registry.names() == ["a1", "b1", "b2"]
    assert registry.names("b*") == ["b1", "b2"] and registry.names("[ab]1") == ["a1", "b1"]
    assert registry.names("B*") == []


def test_the_same_class_again_replaces_the_first():
    """A cell of a notebook that runs twice."""
    registry = Registry("thing")
    first = registry.register("t")(make_class())
    second = registry.register("t")(make_class())
    assert first is not second and registry.get("t") is second and len(registry) == 1


@pytest.mark.parametrize("other", [make_class("Else"), make_class(module="elsewhere")])
def test_another_object_under_a_taken_name_is_refused(other):
    registry = Registry("thing", ignore_case=True)
    thing = registry.register("t")(make_class())
    with pytest.raises(UserError, match="the thing 't' is .*Thing already") as caught:
        registry.register("T")(other)
    assert f"{other.__module__}.{other.__qualname__}" in str(caught.value)
    assert registry.get("t") is thing


def test_functions_without_a_name_of_their_own():
    registry = Registry("thing")
    registry.register("t")(lambda: 1)
    with pytest.raises(UserError, match="<lambda> of line"):
        registry.register("t")(lambda: 2)


def test_names_of_another_library_are_resolved():
    known = {"lib/a": 1, "lib/b": 2}
    registry = Registry("thing", resolve=known.get, near=lambda name: ["lib/a"])
    registry.register("own")(make_class())
    assert registry.get("lib/b") == 2 and "lib/a" in registry and "lib/c" not in registry
    assert registry.names() == ["own"]
    with pytest.raises(UserError, match="did you mean lib/a?"):
        registry.get("lib/c")


def test_a_check_sees_what_is_added():
    def refuse_digits(name, obj):
        if name.isdigit():
            raise UserError(f"{name} is a number")

    registry = Registry("thing", check=refuse_digits)
    with pytest.raises(UserError, match="7 is a number"):
        registry.register("7")(make_class())
    assert "7" not in registry


class Plain(nn.Module):
    """What a network for another framework looks like."""


@pytest.mark.parametrize("model", [Plain, Plain(), lambda cfg: Plain()])
def test_a_network_derives_from_video_model(model):
    with pytest.raises(UserError, match="not a subclass of VideoModel") as caught:
        MODEL_REGISTRY.register("TestPlain")(model)
    message = str(caught.value)
    assert "derive it from slowfast.models.VideoModel" in message
    assert 'MODEL_REGISTRY.register("TestPlain")' in message and "(VideoModel)" in message
    assert "TestPlain" not in MODEL_REGISTRY
    assert issubclass(MODEL_REGISTRY.get("FrameAverage"), VideoModel)


def test_a_registry_is_the_choices_of_its_keys(monkeypatch):
    monkeypatch.setattr(Registry, "by_key", dict(Registry.by_key))
    registry = Registry("animal", "A.KEY / B.KEY")
    assert Registry.by_key["A.KEY"] is registry and Registry.by_key["B.KEY"] is registry
    assert "" not in Registry.by_key
