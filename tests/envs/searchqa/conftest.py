"""Every test leaves the user's cache alone."""

from collections.abc import Iterator

import pytest


@pytest.fixture(scope="session", autouse=True)
def _cache(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("STEPCREDIT_CACHE", str(tmp_path_factory.mktemp("cache")))
        yield
