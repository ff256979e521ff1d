"""Loops that numba compiles: once per machine, kept beside the code, and run without Python's lock."""

from collections.abc import Callable
from typing import TypeVar, cast

import numba

Function = TypeVar("Function", bound=Callable[..., object])


def compiled(function: Function) -> Function:
    """The function as machine code; IEEE arithmetic as written, so that results equal NumPy's bit for bit.

    Dividing by zero gives infinity or NaN, as NumPy does.
    """
    return cast(Function, numba.njit(cache=True, nogil=True, error_model="numpy")(function))
