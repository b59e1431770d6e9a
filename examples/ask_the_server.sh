#!/bin/sh
# Ask `mmd serve` what it sees in a file, with curl:
#
#     sh examples/ask_the_server.sh /var/lib/mmd/serve.sock seven.png
#
# An answer is one JSON object a line; one that could not be given is {"error": "..."}, and curl ends with 22.
set -eu
socket=$1
file=$2
curl --silent --show-error --fail-with-body --unix-socket "$socket" http://localhost/model
curl --silent --show-error --fail-with-body --unix-socket "$socket" --data-binary "@$file" \
    "http://localhost/predict?path=$(basename "$file")"
