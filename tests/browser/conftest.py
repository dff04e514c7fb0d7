"""One browser for the tests of a module, as new for each."""

from collections.abc import Iterator

import pytest
from rigs.chromium import Browser


@pytest.fixture(scope="module")
def shared(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Browser]:
    with Browser(tmp_path_factory.mktemp("profile")) as browser:
        yield browser


@pytest.fixture
def browser(shared: Browser) -> Browser:
    shared.complaints.clear()
    shared.asked.clear()
    shared.media()
    shared.size(1280, 900)
    return shared
