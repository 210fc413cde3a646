"""Advice and forecasts for people."""

from __future__ import annotations

from chromasync.advice_reports import AdviceReport, Forecast, Sign
from chromasync.telling.page import Page
from chromasync.wording.words import duration, moment, number, plain, size

SIGNS = {
    "documents": "documents",
    "memory_share": "memory of the fullest process",
    "cycle_seconds": "usual cycle",
    "growth_per_day": "new documents a day",
}


def show_advice(page: Page, report: AdviceReport) -> None:
    """Print the advice first, then what it is based on."""
    page.say(plain(report.headline))
    if report.bottleneck_reason:
        page.say(plain(report.bottleneck_reason))
    for change in report.changes:
        page.say(f"- {plain(change)}")
    page.say()
    page.table(
        ("Sign of the guide", ">Measured", ">Limit", ""),
        [
            (
                SIGNS.get(sign.name, sign.name),
                _measured(sign, sign.value),
                _measured(sign, sign.limit),
                "exceeded" if sign.exceeded else "",
            )
            for sign in report.signs
        ],
    )
    _show_rest(page, report)
    if report.forecast is not None:
        page.say()
        _show_forecast(page, report.forecast)


def _show_rest(page: Page, report: AdviceReport) -> None:
    page.say(f"By the number of documents alone, the guide says {plain(report.guide_phase)}.")
    if report.is_enough and report.monthly_cost is not None:
        page.say(
            f"Processes of chromasync in {plain(report.recommended_phase)}: about "
            f"{_money(report.monthly_cost, report.currency)} a month."
        )
    if report.since is not None:
        page.say(f"This has been the recommendation since {moment(report.since)}.")
    for words in report.unknown:
        page.say(f"Not known yet. {plain(words)}")


def _measured(sign: Sign, value: float | None) -> str:
    if value is None:
        return "unknown"
    if sign.name == "memory_share":
        return f"{value:.0%}"
    return duration(value) if sign.name == "cycle_seconds" else number(round(value))


def _show_forecast(page: Page, forecast: Forecast) -> None:
    """Print what so many documents would take, and the rates that this follows from."""
    reread = forecast.reread_seconds
    rows = [
        ("phase of the guide", plain(forecast.phase)),
        ("first copy", duration(forecast.first_copy_seconds)),
        ("usual cycle", duration(forecast.cycle_seconds)),
        ("every record read again within", "never" if reread is None else duration(reread)),
        ("state store", size(forecast.state_bytes)),
        ("memory of each server", size(forecast.server_memory_mb * 1e6)),
        ("disk of each server", size(forecast.server_disk_gb * 1e9)),
        ("memory of each process of chromasync", size(forecast.process_memory_mb * 1e6)),
    ]
    rows += [
        (plain(c.what), f"{_money(c.monthly, forecast.currency)} a month") for c in forecast.costs
    ]
    total = forecast.monthly_cost
    if total is not None:
        rows.append(("all together", f"{_money(total, forecast.currency)} a month"))
    page.table((f"With {number(forecast.documents)} documents", ">Forecast"), rows)
    for part in forecast.unpriced:
        page.say(f"The table has no price for {plain(part)}.")
    for rate in forecast.rates:
        page.say(plain(rate))


def _money(amount: float, currency: str) -> str:
    return f"{amount:,.2f} {plain(currency)}"
