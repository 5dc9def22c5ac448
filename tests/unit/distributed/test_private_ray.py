"""What is used of Ray that it does not promise to keep: told by name when another release drops it.

Checked with Ray 2.60.0. A new release that fails here needs another way to the same end, or a look
at whether what is named means the same; then the number goes up.
"""

from __future__ import annotations

import dataclasses
import importlib
import inspect
import re

import pytest
import ray
from ray.data import DataContext

from tests.support.processes import ROOT

CHECKED = "2.60.0"
#: Name -> its parameters as we pass them, and what depends on it.
PRIVATE = {
    "ray._private.services.canonicalize_bootstrap_address": (
        ["addr"],
        "distributed/cluster.py: to which cluster RAY_ADDRESS=auto leads",
    ),
    "ray.train.v2._internal.callbacks.user_callback.UserCallbackHandler": (
        ["user_callbacks", "train_run_context"],
        "tests/unit/distributed/train/test_failures.py: that EndAtOnce is called after a failure",
    ),
    "ray.train.v2._internal.execution.failure_handling.DefaultFailurePolicy": (
        ["failure_config"],
        "tests/unit/distributed/train/test_failures.py: which members are started anew",
    ),
    "ray.train.v2._internal.execution.failure_handling.FailureDecision": (
        [],
        "tests/unit/distributed/train/test_failures.py: which members are started anew",
    ),
}
#: Settings of Ray Data, set by attribute: nothing else would miss one that has gone.
SETTINGS = {
    "enable_progress_bars": "no bars among a job's own lines",
    "execution_no_progress_timeout_s": "job: stall_minutes",
    "raise_original_map_exception": "errors of ours arrive as they were raised",
    "target_max_block_size": "one piece a block, and so a commit a piece",
}
#: Variables and words that no documentation names -> where they stand, and what depends on them.
TEXTS = {
    "StreamingExecutor-": (
        "ray.data._internal.execution.streaming_executor",
        "distributed/session.py: Ray is not shut down under a pipeline that is at work",
    ),
    "RAY_gcs_server_port_wait_time_s": (
        "ray._private.node",
        "distributed/cluster.py: a cluster that does not answer is told in seconds",
    ),
    "RAY_JOB_CONFIG_JSON_ENV_VAR": (
        "ray._private.runtime_env.constants",
        "distributed/holders.py: a lease names the job that was submitted",
    ),
    "Token authentication is enabled": (
        "ray._private.authentication.authentication_token_setup",
        "distributed/session.py: what is no news is not printed",
    ),
    "Progress bars disabled": (
        "ray.data._internal.progress",
        "distributed/session.py: what is no news is not printed",
    ),
}


def gone(what: str, use: str) -> str:
    return (
        f"{what} is not in Ray {ray.__version__} as it was in {CHECKED}, with which it was "
        f"checked; {use} depends on it"
    )


def lacks(name: str, parameters: list[str]) -> bool:
    """Whether the name has gone, or does not take what we pass."""
    module, _, last = name.rpartition(".")
    try:
        found = getattr(importlib.import_module(module), last)
    except (ImportError, AttributeError):
        return True
    if not parameters:
        return False
    return list(inspect.signature(found).parameters)[: len(parameters)] != parameters


@pytest.mark.parametrize("name", PRIVATE)
def test_private_names_are_there(name: str) -> None:
    parameters, use = PRIVATE[name]
    assert not lacks(name, parameters), gone(f"{name}({', '.join(parameters)})", use)


@pytest.mark.parametrize("name", SETTINGS)
def test_settings_of_ray_data_are_there(name: str) -> None:
    known = {field.name for field in dataclasses.fields(DataContext)}
    assert name in known, gone(f"ray.data.DataContext.{name}", SETTINGS[name])


@pytest.mark.parametrize("text", TEXTS)
def test_variables_and_words_are_there(text: str) -> None:
    module, use = TEXTS[text]
    assert text in inspect.getsource(importlib.import_module(module)), gone(repr(text), use)


def test_a_name_that_has_gone_is_told() -> None:
    assert lacks("ray._private.services.no_such_name", [])
    assert lacks("ray._private.no_such_module.name", [])
    assert lacks("ray._private.services.canonicalize_bootstrap_address", ["address"])
    assert gone("ray._private.x(a)", "cluster.py: the cluster's address") == (
        f"ray._private.x(a) is not in Ray {ray.__version__} as it was in 2.60.0, with which it "
        f"was checked; cluster.py: the cluster's address depends on it"
    )


def test_all_that_is_private_is_listed() -> None:
    """Whoever uses one more adds it above, with what depends on it."""
    used = {}
    for folder in ("tokenfocus_ray", "jobs", "tests", "benchmarks"):
        for path in (ROOT / folder).rglob("*.py"):
            if path.name != "test_private_ray.py":
                for name in re.findall(r"\bray(?:\.\w+)*\._(?!_)\w+(?:\.\w+)*", path.read_text()):
                    used[name] = path.relative_to(ROOT)
    assert used, "the pattern finds nothing"
    known = {*PRIVATE, *(module for module, _ in TEXTS.values())}
    for name, path in used.items():
        assert any(k.startswith(name) for k in known), f"{path} uses {name}: list it above"
