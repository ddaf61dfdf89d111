"""The page of a speed campaign: one table of steps, the microbenchmarks, waits, and estimates."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

from slowfast.analysis.markdown import table
from slowfast.analysis.speed.campaign import Campaign, Row, Subject, order, write_rows
from slowfast.analysis.speed.kernels import KernelRow, depthwise_rows, product_rate, product_rows
from slowfast.analysis.speed.roofline import PRECISIONS, estimate
from slowfast.utils.files import make_dirs, write_text_atomic
from slowfast.utils.logging import get_logger
from slowfast.utils.runtime import describe_devices

logger = get_logger(__name__)

_STEP_COLUMNS = {
    "network": "network",
    "precision": "precision",
    "mode": "mode",
    "batch": "batch",
    "step_ms": "step ms",
    "clips_per_s": "clips per s",
    "test_views_per_s": "test views per s",
    "peak_gib": "GiB",
    "tflops": "TFLOP/s",
    "share_of_peak": "share of peak",
    "idle_share": "idle",
    "waits_per_step": "waits",
    "first_step_s": "first step s",
    "note": "note",
}

_EXPLANATION = """\
A step is forward, loss, backward and optimizer on random clips that come from memory in the layout
of the loader (uint8, channels last), normalised on the device. Modes: *plain* is the same network
with attention that builds its weight matrix, contiguous clips and an optimizer without fused
operators; *eager* is the framework as it is; *compiled* adds `TRAIN.COMPILE True`. *Test views* are
forward passes in evaluation mode: a video of a multi-view test takes as many as the test has views.
*Share of peak*: achieved operations over the rate of a large matrix product on this device,
measured in the same run ({peaks}). *Idle*: share of the step in which the device neither computes
nor copies.
*Waits*: places in a step at which the process waits for the device.
"""


@dataclass(frozen=True)
class EstimateRow:
    """An estimate of a training step; nothing of it is measured."""

    network: str
    precision: str
    batch: int
    machine: str
    peak_ms: float
    roofline_ms: float
    clips_per_s_at_roofline: float
    operators: int


def run_campaign(
    campaign: Campaign,
    subjects: Sequence[Subject],
    out: str | Path,
    precisions: Sequence[str] = PRECISIONS,
    modes: Sequence[str] = ("plain", "eager", "compiled"),
) -> Path:
    """Measure everything, write ``campaign.md`` and CSV files to the folder ``out``; the page.

    Rows are written as they come: what is measured stays if the run is interrupted.
    """
    folder = make_dirs(out)
    for precision in precisions:
        campaign.peaks[precision] = float(f"{product_rate(campaign.runtime, precision):.3g}")
    kernels = [
        *depthwise_rows(campaign.runtime, campaign.batch, campaign.rounds),
        *product_rows(campaign.runtime, campaign.batch, campaign.rounds),
    ]
    write_rows(kernels, folder / "kernels.csv")
    rows: list[Row] = []
    for subject, precision, mode in order(subjects, precisions, modes):
        rows.append(campaign.measure(subject, precision, mode))
        logger.info("%s", _line(rows[-1]))
        _write(campaign, folder, rows, kernels, [])
    campaign.count(subjects)
    campaign.rate(rows)
    estimates = list(_estimates(campaign, subjects))
    write_rows(estimates, folder / "estimates.csv")
    _write(campaign, folder, rows, kernels, estimates)
    return folder / "campaign.md"


def _write(
    campaign: Campaign,
    folder: Path,
    rows: Sequence[Row],
    kernels: Sequence[KernelRow],
    estimates: Sequence[EstimateRow],
) -> None:
    write_rows(rows, folder / "steps.csv")
    write_text_atomic(folder / "campaign.md", _page(campaign, rows, kernels, estimates))


def _line(row: Row) -> str:
    head = f"{row.network} {row.precision} {row.mode}"
    if row.note:
        return f"{head}: {row.note}"
    return (
        f"{head}: {row.step_ms} ms, {row.clips_per_s} clips/s, {row.peak_gib} GiB, "
        f"{row.test_views_per_s} test views/s, idle {row.idle_share:.1%}, "
        f"first step {row.first_step_s} s"
    )


def _estimates(campaign: Campaign, subjects: Sequence[Subject]) -> Iterable[EstimateRow]:
    for subject in subjects:
        for precision in PRECISIONS:
            counted = "bf16" if precision == "bf16" else "fp32"
            for guess in estimate(campaign.operations[subject.name, counted], precision):
                rate = 1000 * campaign.batch / guess.roofline_ms
                yield EstimateRow(
                    subject.name,
                    precision,
                    campaign.batch,
                    guess.machine,
                    guess.peak_ms,
                    guess.roofline_ms,
                    round(rate, 1),
                    guess.operators,
                )


def _page(
    campaign: Campaign,
    rows: Sequence[Row],
    kernels: Sequence[KernelRow],
    estimates: Sequence[EstimateRow],
) -> str:
    device = "; ".join(describe_devices()) if campaign.runtime.on_gpu else "CPU"
    peaks = ", ".join(f"{name} {rate:g} TFLOP/s" for name, rate in campaign.peaks.items())
    parts = [
        f"# Speed of all families: {device}",
        _EXPLANATION.format(peaks=peaks),
        table(
            list(_STEP_COLUMNS.values()),
            [[_cell(getattr(row, name)) for name in _STEP_COLUMNS] for row in rows],
        ),
        "## Single operations",
        table(
            ["operation", "shape", "way", "ms"],
            [[row.operation, row.shape, row.way, _cell(row.milliseconds)] for row in kernels],
        ),
        "## Where a step waits for the device",
        table(
            ["network", "place", "times"],
            [[name, _short(place), str(n)] for (name, place), n in campaign.waits.items()],
        ),
        "## Where the device spends a step",
        table(
            ["network", "operator", "ms"],
            [[name, operator, f"{ms:g}"] for (name, operator), ms in campaign.operators.items()],
        ),
        "## Estimates for machines (nothing of this is measured)",
        "Operations and bytes of every operator, counted without running it, against the data "
        "sheet: *peak* is the time of the operations alone, *roofline* that of every operator at "
        "its limit of products or memory. Real kernels need more.",
        table(
            [
                "network",
                "precision",
                "machine",
                "peak ms",
                "roofline ms",
                "clips per s",
                "operators",
            ],
            [
                [
                    *(row.network, row.precision, row.machine, f"{row.peak_ms:g}"),
                    *(f"{row.roofline_ms:g}", f"{row.clips_per_s_at_roofline:g}"),
                    str(row.operators),
                ]
                for row in estimates
            ],
        ),
    ]
    return "\n\n".join(parts) + "\n"


def _cell(value: object) -> str:
    return f"{value:g}" if isinstance(value, float) else str(value)


def _short(place: str) -> str:
    """A file below the package or the environment, without the folders above."""
    for marker in ("/site-packages/", "/dist-packages/"):
        place = place.split(marker)[-1]
    return place[place.find("slowfast/") :] if "/slowfast/" in place else place
