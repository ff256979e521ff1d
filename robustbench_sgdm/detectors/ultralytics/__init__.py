"""Ultralytics' detectors: the zoo, modules grafted into them, weights read without running code.

Importing this package imports Ultralytics, quietly: every submodule, and whoever imports this first, may then
import it plainly.
"""

from robustbench_sgdm.detectors.ultralytics.quiet_import import import_ultralytics

import_ultralytics()
