"""Words that several rooms share."""

CLEAN = "clean"
"""The name under which severity 0, the same for every corruption, is stored once."""

METRICS = ("AP", "AP50", "AP75", "AP_S", "AP_M", "AP_L", "AR1", "AR10", "AR100", "AR_S", "AR_M", "AR_L")
"""COCO's twelve box statistics, in its order; percent everywhere in this package."""

# COCO-C's nineteen corruptions (Michaelis et al. 2019), in its order.
BENCHMARK = (
    *("gaussian_noise", "shot_noise", "impulse_noise"),
    *("defocus_blur", "glass_blur", "motion_blur", "zoom_blur"),
    *("snow", "frost", "fog", "brightness"),
    *("contrast", "elastic_transform", "pixelate", "jpeg_compression"),
)
"""The fifteen that mPC is the mean over, at severities 1 to 5."""

HOLDOUT = ("speckle_noise", "gaussian_blur", "spatter", "saturate")
"""Those kept for validation."""

TOKEN_VARIABLE = "ROBUSTBENCH_DASHBOARD_TOKEN"
"""Environment variable with what a visitor of the dashboard must know; nothing where it is not set."""

REPORT_POLICY = (
    "default-src 'none'; img-src data:; font-src data:; style-src {}; base-uri 'none'; form-action 'none'"
)
"""Content security policy of `report.html`: no script, no address, no form; its one style by its digest."""
