"""The dashboard's own components: each a JavaScript and a CSS file of `app/viewer/`."""

from typing import Any

import streamlit as st

from robustbench_sgdm.core import resources


def register(name: str) -> Any:
    """The component of `app/viewer/{name}.js` and `{name}.css`."""
    folder = resources.root() / "app" / "viewer"
    return st.components.v2.component(
        f"robustbench_{name}",
        js=(folder / f"{name}.js").read_text("utf-8"),
        css=(folder / f"{name}.css").read_text("utf-8"),
    )
