"""One headless Chromium for all tests of pages, Debian's own: nothing is fetched."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from typing import Any

import pytest


@pytest.fixture(scope="session")
def browser() -> Iterator[Any]:
    """Chromium; where there is none tests are skipped, but for CI, where that would go unseen."""
    path = shutil.which("chromium") or shutil.which("chromium-browser")
    if path is None:
        said = "no chromium on this machine; install Debian's package chromium"
        if os.environ.get("CI") == "true":
            pytest.fail(said)
        pytest.skip(said)
    from playwright.sync_api import sync_playwright

    with sync_playwright() as driver:
        # a container's own user is root, as whom Chromium has no sandbox
        found = driver.chromium.launch(executable_path=path, args=["--no-sandbox"])
        yield found
        found.close()
