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

TOKEN = "ROBUSTBENCH_DASHBOARD_TOKEN"
"""Environment variable with what a visitor of the dashboard must know; nothing where it is not set."""

FIGURES = {
    "severity": "AP against severity with interval bands, a panel per corruption",
    "differences": "differences corruption by severity as a heat map, significance marked",
    "means": "mPC and rPC by family with intervals",
    "sizes": "AP of small, medium and large objects, clean and corrupted",
    "errors": "error types by severity as stacked bars",
    "psnr": "AP against the measured PSNR and SSIM of the corrupted images",
    "classes": "AP lost by class",
    "losses": "training losses of the weights, where their logs are known",
    "side-by-side": "detections of both models on clean and corrupted images",
    "contact-sheet": "one image under every corruption and severity",
}
"""The figures of a run and what each shows; here, so that the command line can list them without drawing."""
