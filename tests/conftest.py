"""What holds for every test: offline, few threads. Set before torch, ray or a hub is imported."""

from __future__ import annotations

import os

for _name, _value in {
    "HF_DATASETS_OFFLINE": "1",
    "HF_HUB_OFFLINE": "1",
    "OMP_NUM_THREADS": "2",  # torch's threads: tests run beside others, and on small machines
    "RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO": "0",  # Ray's coming default; silences its warning
    "RAY_USAGE_STATS_ENABLED": "0",
    "TOKENIZERS_PARALLELISM": "false",
    "TRANSFORMERS_OFFLINE": "1",
}.items():
    os.environ.setdefault(_name, _value)

# Here, so that a session has one server for all folders of tests; after the settings above.
from tests.support.s3 import s3_bucket, s3_server  # noqa: E402, F401
