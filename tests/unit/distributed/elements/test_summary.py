"""The last line, and what is said of rows without elements."""

from __future__ import annotations

from tokenfocus_ray.distributed.elements.summary import ElementsSummary, say_reasons


def summary(statuses: dict[str, int], reasons: dict[str, int]) -> ElementsSummary:
    return ElementsSummary("F", sum(statuses.values()), 5, 21, statuses, reasons, 2.25, "")


def test_line() -> None:
    found = summary({"made": 7, "none": 2, "given": 1}, {"the prompt is empty": 2})
    assert found.line() == (
        "rows=10 prompts=5 elements=21 given=1 made=7 cut=0 none=2 failed=0 seconds=2.2 out=F"
    )


def test_reasons() -> None:
    lines: list[str] = []
    say_reasons(summary({"made": 7, "given": 1}, {}), lines.append)
    assert lines == []
    say_reasons(summary({"none": 3, "cut": 1}, {"empty": 3, "long": 1}), lines.append)
    many = {f"reason {i}": 9 - i for i in range(7)}
    say_reasons(summary({"failed": 42}, many), lines.append)
    assert lines == [
        "4 rows without elements, or not all of them: 3: empty; 1: long",
        "42 rows without elements, or not all of them: 9: reason 0; 8: reason 1; 7: reason 2; "
        "6: reason 3; 5: reason 4; and 2 other reasons, in column elements_reason",
    ]
