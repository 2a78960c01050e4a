"""What the records of a manifest have in common."""

from typing import Annotated

from pydantic import BaseModel, ConfigDict, Field, StringConstraints

Sha256 = Annotated[str, StringConstraints(pattern=r"^[0-9a-f]{64}$")]
Share = Annotated[float, Field(ge=0, le=1)]
Word = Annotated[str, StringConstraints(pattern=r"^[a-z][a-z0-9_-]{0,63}$")]

RelativePath = Annotated[
    str, StringConstraints(pattern=r"^[A-Za-z0-9_][A-Za-z0-9._-]*(/[A-Za-z0-9_][A-Za-z0-9._-]*)*$", max_length=200)
]
"""Letters, digits and . _ - only, no part that starts with a dot: it can't leave the bundle's directory."""


class Frozen(BaseModel):
    """A record that is checked strictly when read: unknown fields are errors, values don't change."""

    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)
