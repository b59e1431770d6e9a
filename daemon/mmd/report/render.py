"""How does a report become one self-contained HTML file?"""

from datetime import datetime
from pathlib import Path

from jinja2 import Environment, PackageLoader, StrictUndefined

from mmd.durable import write_bytes
from mmd.report.charts import accuracy_chart, confusion_chart, loss_chart, timeline_chart
from mmd.report.data import ReportData


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
        accuracy_chart=accuracy_chart,
        confusion_chart=confusion_chart,
        loss_chart=loss_chart,
        timeline_chart=timeline_chart,
    )


def write_report(data: ReportData, path: Path) -> None:
    """Write the page to `path`; a crash leaves the old page or the new one."""
    write_bytes(path, render(data).encode())
