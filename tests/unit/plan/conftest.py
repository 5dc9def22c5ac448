from tests.unit.training.conftest import *  # noqa: F403 - the same fixtures
