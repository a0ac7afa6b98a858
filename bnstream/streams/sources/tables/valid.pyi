from typing import Any

import numpy as np
from numpy.typing import NDArray

def valid(x: NDArray[Any], bits: NDArray[np.uint8], first: int, n: int) -> NDArray[Any]: ...
