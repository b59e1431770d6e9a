"""A program without a single package that asks `mmd serve` what it sees, over its Unix socket.

    python examples/ask_the_server.py /var/lib/mmd/serve.sock seven.png two.png

The connection is kept; a model that is promoted between two requests answers the second.
"""

import http.client
import json
import socket
import sys
from pathlib import Path
from urllib.parse import quote


class UnixConnection(http.client.HTTPConnection):
    """HTTP over a Unix socket."""

    def __init__(self, path: str) -> None:
        super().__init__("localhost", timeout=30)
        self.path = path

    def connect(self) -> None:
        self.sock = socket.socket(socket.AF_UNIX)
        self.sock.connect(self.path)


def main() -> None:
    server, *files = sys.argv[1:]
    connection = UnixConnection(server)
    for file in files:
        connection.request("POST", f"/predict?path={quote(file)}", Path(file).read_bytes())
        for line in connection.getresponse().read().splitlines():
            answer = json.loads(line)
            if "error" in answer:
                print(f"{file}: {answer['error']}")
            else:
                sure = answer["probabilities"][answer["label"]]
                print(f"{answer['path']}: {answer['label']} ({sure:.0%}), generation {answer['generation']}")


if __name__ == "__main__":
    main()
