"""Sections and keys."""

from __future__ import annotations

import pytest

from slowfast.config.schema import SECTIONS, Key, Section, extend_section, register_section


@pytest.fixture
def section():
    yield register_section(Section("OWN", "A section", {"A": Key(1, "A number.")}))
    del SECTIONS["OWN"]


def test_keys_are_added_where_they_are_read(section):
    extend_section("OWN", {"B": Key("", "A text.")})
    extend_section("OWN", {"B": Key("", "A text.")})  # a module that is loaded again
    assert list(section.dotted()) == ["OWN.A", "OWN.B"]
    with pytest.raises(AssertionError, match="OWN has other keys called A"):
        extend_section("OWN", {"A": Key(2, "Another number.")})
