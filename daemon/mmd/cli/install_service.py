"""`mmd install-service`: put the systemd files where they belong."""

from pathlib import Path

import click


@click.command("install-service", short_help="Install the systemd unit, its user and folders.")
@click.option(
    "--root",
    type=click.Path(path_type=Path, file_okay=False),
    default=Path("/"),
    help="Install under this folder instead of / (an image of a board, say).",
)
@click.option("--program", metavar="PATH", help="The mmd that the service starts [default: this one; see below].")
@click.option("--dry-run", is_flag=True, help="Say what would be done, and do nothing.")
def install_service(root: Path, program: str | None, dry_run: bool) -> None:
    """Install the systemd unit, its user and its folders, and say what to do next.

    Doing it again changes nothing. What you set in /etc/systemd/system/mmd.service.d stays in force. With --root the
    service starts /opt/mmd/bin/mmd unless --program names another.
    """
    from mmd.supervisor.service import USUAL_PROGRAM, Change, next_steps, own_program, place, placements

    root = root.absolute()
    chosen = program or (own_program() if root == Path("/") else USUAL_PROGRAM)
    wanted = placements(root, chosen)
    if not dry_run:
        place(wanted)
    for each in wanted:
        print(f"{each.change.value:<9} {each.destination}")
    if dry_run:
        print("Nothing was written.")
        return
    is_done = all(each.change is Change.UNCHANGED for each in wanted)
    print("All was in place. If it does not run yet:" if is_done else "Next:")
    for step in next_steps(root, chosen):
        print(f"  {step}")
