"""What is kept beside the output comes back as it was."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from tokenfocus_ray.distributed.elements.files import read_made, results_of, there, write_made
from tokenfocus_ray.elements.decomposed import decomposed, failed, nothing
from tokenfocus_ray.schema import Element
from tokenfocus_ray.storage import Store


def test_results_come_in_the_order_that_is_asked(tmp_path: Path) -> None:
    store = Store.of(tmp_path)
    results = [decomposed([Element(f"thing {i}", "object")]) for i in range(7)]
    results[3], results[4] = nothing("empty"), failed("no answer")
    for chunk in range(3):
        write_made(store, chunk, results[chunk * 3 : chunk * 3 + 3])
    assert there(store, "__job/made") == {0, 1, 2}
    numbers = np.array([6, 3, 0, 4, 1])
    assert results_of(read_made(store, numbers, 3)) == [results[n] for n in numbers]
    assert results_of(read_made(store, np.array([], np.int64), 3)) == []
