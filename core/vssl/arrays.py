"""Names for the kinds of numpy arrays that all parts share. Shapes stand in the docstrings of what takes them."""

import numpy as np
import numpy.typing as npt

Pixels = npt.NDArray[np.uint8]
"""Images [N, S, S, 3], or one [S, S, 3]: RGB, 0 … 255."""

Floats = npt.NDArray[np.floating]
"""Floating-point numbers of any width."""

Float32s = npt.NDArray[np.float32]
Float64s = npt.NDArray[np.float64]

Integers = npt.NDArray[np.integer]
"""Whole numbers of any width, such as labels [N]."""

Int64s = npt.NDArray[np.int64]

Mask = npt.NDArray[np.bool_]
"""One answer, yes or no, for each row."""
