"""What a selection keeps."""

from __future__ import annotations

from typing import Self

from pydantic import Field, model_validator

from tokenfocus_ray.config.base import Frozen


class Selection(Frozen):
    """What a selection keeps of scored rows; a row is kept that nothing here drops.

    The criteria apply in this order, and a row is dropped by the first that it fails. Those of rows
    compare numbers in the precision in which they are stored, so that a row whose score is shown as
    3.1 reaches 3.1. Those of ranks go by the score, from the highest down, ties by ``sample_id``.

    Attributes:
        min_score: Least score.
        min_low: Least lower end of the score's interval, which an ensemble gives.
        max_spread: Most between the highest and the lowest score of the members.
        min_agreement: Least share of the backbones (of the members, where there is one backbone)
            whose own score reaches ``min_score``.
        elements_present: Whether every element must be present.
        element_types: Types of which every element must be present; a row without any passes.
        elements: Texts of elements that a row must have, and that must be present.
        element_threshold: From which score on an element is present; by default as the ensemble
            decided, or 0.5.
        dependencies: Whether an element is absent where one that it depends on is
            (column ``element_parents``).
        best_of: The best so many of each prompt.
        top: The best share of those, rounded up.
        balance: Column, or one of ``generator``, ``prompt_type`` and ``element_type``, whose groups
            are to be equally large: as the smallest is, or as fills the budget. A row counts for
            the rarest of its element types.
        budget: The best so many rows.
    """

    min_score: float | None = None
    min_low: float | None = None
    max_spread: float | None = Field(default=None, ge=0.0)
    min_agreement: float | None = Field(default=None, gt=0.0, le=1.0)
    elements_present: bool = False
    element_types: tuple[str, ...] = ()
    elements: tuple[str, ...] = ()
    element_threshold: float | None = Field(default=None, ge=0.0, le=1.0)
    dependencies: bool = False
    best_of: int | None = Field(default=None, ge=1)
    top: float | None = Field(default=None, gt=0.0, le=1.0)
    balance: str | None = Field(default=None, min_length=1)
    budget: int | None = Field(default=None, ge=1)

    @model_validator(mode="after")
    def _fits(self) -> Self:
        if self.min_agreement is not None and self.min_score is None:
            raise ValueError("min_agreement needs min_score, which the members are to reach")
        given = {"element_threshold": self.element_threshold is not None}
        given["dependencies"] = self.dependencies
        for name, is_given in given.items():
            if is_given and not self.asks_elements:
                raise ValueError(f"{name} needs elements_present, element_types or elements")
        if blank := [t for t in (*self.element_types, *self.elements) if not t.strip()]:
            raise ValueError(f"an element or a type is {blank[0]!r}; give its text")
        return self

    @property
    def asks_elements(self) -> bool:
        """Whether elements decide."""
        return bool(self.elements_present or self.element_types or self.elements)

    @property
    def ranks(self) -> bool:
        """Whether rows are compared with each other."""
        return any(v is not None for v in (self.best_of, self.top, self.balance, self.budget))

    def given(self) -> dict[str, object]:
        """What is not the default, as plain values."""
        return self.model_dump(mode="json", exclude_defaults=True)
