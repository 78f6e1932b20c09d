"""The picture that maps are made of."""

from __future__ import annotations

import numpy as np
import pytest
from maps_fakes import smooth_picture


@pytest.fixture
def picture() -> np.ndarray:
    return smooth_picture()
