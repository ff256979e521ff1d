"""The dashboard's entry point, which `robustbench dashboard` starts: the frame around the pages in `views/`."""

import base64

import streamlit as st

from robustbench_sgdm.core import escaping, resources
from robustbench_sgdm.dashboard import session
from robustbench_sgdm.dashboard.pages import Page, load_pages, show_page

APP = resources.root() / "app"


def main() -> None:
    """Lay out the pages and draw the one that the address names."""
    # In the page itself: as a file of its own it is gone for a browser that asks while the next script begins.
    icon = base64.b64encode((APP / "icon.png").read_bytes()).decode()
    st.set_page_config("RobustBench-SGDM", page_icon=f"data:image/png;base64,{icon}", layout="wide")
    st.html(APP / "page.css")
    if st.context.theme.type == "dark":
        st.html(APP / "dark.css")
    st.logo(_wordmark(), size="medium")
    declared, problems = load_pages(APP / "views")
    pages = {page.name: _entry(page, page is declared[0]) for page in declared}
    st.session_state["pages"] = pages  # for links between them
    page = st.navigation(list(pages.values()), position="top")
    with st.container(key="title"):  # on narrow screens, where the menu is folded
        st.subheader(page.title, anchor=False)
    session.record_visit(page.title)
    for problem in problems:
        st.error(escaping.markdown(problem), icon=":material/error:")
    page.run()


def _wordmark() -> str:
    """The product's name as an SVG image, in the color of the page's text."""
    color = "#e8ecf5" if st.context.theme.type == "dark" else "#1a2233"
    return (
        '<svg xmlns="http://www.w3.org/2000/svg" width="190" height="32" viewBox="0 0 190 32" role="img">'
        f'<text x="0" y="21" font-family="system-ui, sans-serif" font-size="17" font-weight="700" fill="{color}">'
        "RobustBench-SGDM</text></svg>"
    )


def _entry(page: Page, is_first: bool) -> "st.Page":
    def body() -> None:
        show_page(page)

    return st.Page(body, title=page.title, icon=page.icon, url_path=page.name, default=is_first)


main()
