"""Names and the nearest ones."""

from __future__ import annotations

import pytest

from slowfast.utils.errors import UserError
from slowfast.utils.registry import Registry, did_you_mean, near_names


def test_objects_by_name():
    registry: Registry = Registry("network")

    @registry.register()
    class First:
        pass

    second = registry.register("2nd")(object())
    assert registry.get("First") is First and registry.get("2nd") is second
    assert list(registry) == ["First", "2nd"] and len(registry) == 2
    assert "First" in registry and "first" not in registry


def test_case_may_be_ignored():
    registry: Registry = Registry("data set", ignore_case=True)
    value = registry.register("Kinetics")(object())
    assert registry.get("kinetics") is value and "KINETICS" in registry


def test_a_wrong_name_gives_the_nearest():
    registry: Registry = Registry("network", "MODEL.MODEL_NAME")
    for name in ("Uniformer", "TimeSformer", "STAM"):
        registry.register(name)(object())
    with pytest.raises(UserError) as caught:
        registry.get("uniformr")
    (problem,) = caught.value.problems
    assert (
        problem.key == "MODEL.MODEL_NAME" and "no network is called 'uniformr'" in problem.message
    )
    assert problem.remedy.startswith("did you mean Uniformer")
    with pytest.raises(UserError, match="known: STAM, TimeSformer, Uniformer"):
        registry.get("xyz")


def test_near_names_ignore_case_and_keep_the_spelling():
    known = ["DATA.NUM_FRAMES", "DATA.MEAN", "SOLVER.BASE_LR"]
    assert near_names("data.num_frame", known, count=1) == ["DATA.NUM_FRAMES"]
    assert near_names("base_lr", known) == ["SOLVER.BASE_LR"]
    assert did_you_mean("zzz", known) == ""
