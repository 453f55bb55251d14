"""What several unit tests need."""

import pytest

from .openai_layout import to_openai


@pytest.fixture(scope="session")
def as_openai():
    """The function that names the weights of a `CLIPModel` as OpenAI does."""
    return to_openai
