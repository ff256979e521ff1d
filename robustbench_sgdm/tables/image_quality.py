"""Table of PSNR and SSIM by corruption."""

from collections.abc import Mapping, Sequence

from robustbench_sgdm.tables.table import Table


def image_quality_table(measured: Mapping[str, Sequence[tuple[float, float]]], where: str) -> Table:
    """A row per corruption, a column per severity.

    Args:
        measured: name -> (PSNR in dB, SSIM) at severities 1 to 5.
        where: the images, in words.
    """
    rows = [
        [name, *(f"{psnr:.1f} {ssim:.2f}".replace(" 0.", " .") for psnr, ssim in scores)]
        for name, scores in measured.items()
    ]
    columns = ["corruption", *(f"severity {severity}" for severity in range(1, 6))]
    return Table(
        "Image quality", columns, rows, [f"PSNR in dB and SSIM against the clean image, means over {where}."]
    )
