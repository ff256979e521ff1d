"""Pickles are read without constructing, importing or calling anything that they name."""

import io
import pickle
from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st

from robustbench_sgdm.core.pickles import read_records

keys = st.one_of(st.text(max_size=5), st.integers(-(2**40), 2**40), st.booleans(), st.none())
leaves = st.one_of(
    keys, st.floats(allow_nan=False), st.binary(max_size=8), st.sets(st.integers(0, 9), max_size=3)
)
values = st.recursive(
    leaves,
    lambda inner: st.one_of(
        st.lists(inner, max_size=4),
        st.tuples(inner, inner),
        st.dictionaries(keys, inner, max_size=4),
        st.lists(inner, max_size=2).map(tuple),
    ),
    max_leaves=20,
)


@settings(max_examples=150, derandomize=True, deadline=None)
@given(value=values, protocol=st.integers(0, 5))
def test_plain_values_are_read_as_pickle_reads_them(value: Any, protocol: int) -> None:
    assert read_records(io.BytesIO(pickle.dumps(value, protocol))) == value
