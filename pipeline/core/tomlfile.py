"""TOML files that are read strictly: one way from a file to checked values, or to what is wrong with it."""

from __future__ import annotations

import tomllib
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

from pydantic import BaseModel, ValidationError

from pipeline.core.errors import PipelineError, UsageError, reason

Model = TypeVar("Model", bound=BaseModel)
Location = tuple[int | str, ...]

_FIX = "fix the file and run it again"


def read(file: Path, *, hint: str = _FIX, error: type[PipelineError] = UsageError) -> dict[str, Any]:
    """The file's table. Raises ``error`` if it does not exist, cannot be read, or is not TOML."""
    try:
        return tomllib.loads(file.read_text())
    except FileNotFoundError:
        raise error(f"{file} does not exist", hint=hint) from None
    except OSError as e:
        raise error(f"{file} cannot be read: {reason(e)}", hint=hint) from None
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as e:
        raise error(f"{file} is not TOML: {e}", hint=hint) from None


def checked(
    model: type[Model], data: Any, where: object, *, hint: str = "fix the keys named above",
    error: type[PipelineError] = UsageError, location: Callable[[Location], Location] = tuple,
) -> Model:  # fmt: skip
    """``data`` as a ``model``. Raises ``error`` with a line for each key that is wrong (`in_words`)."""
    try:
        return model.model_validate(data)
    except ValidationError as e:
        raise error(in_words(e, where, location), hint=hint) from None


def in_words(wrong: ValidationError, where: object, location: Callable[[Location], Location] = tuple) -> str:
    """``WHERE: KEY: MESSAGE``, a line for each key. ``location`` turns pydantic's path into the file's."""
    return "\n".join(
        f"{where}: {'.'.join(map(str, location(e['loc']))) or '(top level)'}: {e['msg']}"
        for e in wrong.errors()
    )
