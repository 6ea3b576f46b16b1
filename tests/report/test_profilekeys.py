"""CONTRIBUTING's tables of a profile's keys are the models': whole, with what each key means."""

from __future__ import annotations

from pathlib import Path

import pytest
from pydantic import BaseModel

from pipeline.report import profilekeys


def test_contributing_has_the_keys() -> None:
    text = profilekeys.FILE.read_text()
    assert profilekeys.document(text) == text, "run `python -m pipeline.report.profilekeys`"


@pytest.mark.parametrize(("title", "model"), profilekeys.TABLES, ids=lambda v: getattr(v, "__name__", ""))
def test_every_key_says_what_it_means(title: str, model: type[BaseModel]) -> None:  # noqa: ARG001
    assert set(profilekeys.comments(model)) == set(model.model_fields)


def test_a_file_without_marks_is_left_alone(tmp_path: Path) -> None:
    file = tmp_path / "CONTRIBUTING.md"
    file.write_text("no marks")
    with pytest.raises(ValueError, match="has no <!-- keys"):
        profilekeys.main(file)
    assert file.read_text() == "no marks"
