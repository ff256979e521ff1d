"""Published corruptions whose damage does not grow with every half severity, and why."""

import pytest

NOT_MONOTONE = {
    "glass_blur": "COCO-C moves pixels 2, 1, 3, 2, 2 times, and by whole pixels: more blur, but fewer passes",
    "frost": "one of six photographs is drawn, and how bright it is counts for more than its share",
    "fog": "COCO-C's amount stays at 2.5 from severity 3 to 4; only the clouds become finer",
    "spatter": "water up to severity 3 and mud from 4 on; thick mud darkens more than the published one",
    "saturate": "severities 1 and 2 take colour away, 3 to 5 add it; between them lies the clean image",
}


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Expect exactly those to fail the contract of growing damage; one that passes is an error."""
    for item in items:
        for name, reason in NOT_MONOTONE.items():
            if item.name == f"test_damage_grows_with_severity[{name}]":
                item.add_marker(pytest.mark.xfail(reason=reason, strict=True, raises=AssertionError))
