"""What some tests need and not every Python can have."""

import importlib.util

import pytest

WITHOUT_PYDENSECRF = "need pydensecrf, which is not installed; it builds up to Python 3.12"
needs_pydensecrf = pytest.mark.skipif(importlib.util.find_spec("pydensecrf") is None, reason=WITHOUT_PYDENSECRF)
