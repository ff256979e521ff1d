"""The report of a run: one self-contained HTML file and the same as PDF, from the template in `reports/`.

write_report(RunAnalysis(run))   # report.html, report.pdf, and figures/ with the drawings and their data
"""

from robustbench_sgdm.report.build import write_report
from robustbench_sgdm.report.sections import section_tables

__all__ = ["section_tables", "write_report"]
