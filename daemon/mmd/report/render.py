"""How does a report become one self-contained HTML file?"""

from datetime import datetime
from pathlib import Path

from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup, escape

from mmd.durable import write_bytes
from mmd.report.charts import confusion_chart, loss_chart, steady_notes, timeline_chart, wilson_interval
from mmd.report.data import ReportData
from mmd.report.recent import words


def render(data: ReportData) -> str:
    """Return the page: no script, no link, nothing fetched."""
    environment = Environment(
        loader=PackageLoader("mmd.report", "."),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    return environment.get_template("report.html.j2").render(
        data=data,
        created=datetime.fromtimestamp(data.created).astimezone().strftime("%Y-%m-%d %H:%M"),
        confusion_chart=confusion_chart,
        loss_chart=loss_chart,
        timeline_chart=timeline_chart,
        steady_notes=steady_notes,
        interval=lambda row: wilson_interval(row.right, row.total),
        marked=marked,
        words=words,
    )


def marked(text: str) -> Markup:
    """Show what stands between backticks as code."""
    parts = text.split("`")
    return Markup("").join(
        Markup("<code>{}</code>").format(part) if place % 2 else escape(part) for place, part in enumerate(parts)
    )


def write_report(data: ReportData, path: Path) -> None:
    """Write the page to `path`; a crash leaves the old page or the new one."""
    write_bytes(path, render(data).encode())
