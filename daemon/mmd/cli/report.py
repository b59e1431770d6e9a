"""`mmd report`: what was learned, as one HTML file."""

from pathlib import Path

import click

from mmd.cli.main import Session, pass_session
from mmd.errors import UsageError


@click.command(short_help="Write a page of losses, confusions and timeline.")
@click.option(
    "--out",
    type=click.Path(path_type=Path, dir_okay=False),
    default=Path("report.html"),
    show_default=True,
    help="Where the page goes.",
)
@click.option("--json", "as_json", is_flag=True, help="Print the figures as JSON instead of writing the page.")
@pass_session
def report(session: Session, out: Path, as_json: bool) -> None:
    """Write a page with the losses, the confusions and the timeline of this board."""
    import msgspec

    if not as_json and not out.absolute().parent.is_dir():
        raise UsageError(f"There is no folder {out.absolute().parent} for the report; make it, or give another --out.")
    from mmd.report.collect import collect

    data = collect(session.initialised_state(), title="What this board learned")
    if as_json:
        click.echo(msgspec.json.encode(data).decode())
        return
    from mmd.report.render import write_report

    write_report(data, out.absolute())
    click.echo(f"The report is in {out}.")
