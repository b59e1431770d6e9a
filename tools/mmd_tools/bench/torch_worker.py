"""How does PyTorch take the same step? A child of `bench step`; it imports PyTorch and numpy, nothing of ours.

Started as a script, by whichever interpreter has PyTorch: `torch_worker.py JOB.json`.
"""

import itertools
import json
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import nn


def build(layers: list[dict[str, Any]], weights: dict[str, np.ndarray], rank: int) -> nn.Sequential:
    """Make the network of `cases.py` with the given weights."""
    conv, pool, average = nn.Conv2d, nn.MaxPool2d, nn.AdaptiveAvgPool2d
    if rank == 1:
        conv, pool, average = nn.Conv1d, nn.MaxPool1d, nn.AdaptiveAvgPool1d
    modules: list[nn.Module] = []
    for index, layer in enumerate(layers):
        kind, kernel, stride = layer["kind"], layer["kernel"], layer["stride"]
        weight = torch.from_numpy(weights[f"{index}.weight"]) if f"{index}.weight" in weights else None
        if kind == "pool":
            modules.append(pool(kernel, stride))
        elif kind == "average":
            modules += [average(1), nn.Flatten()]
        elif kind == "flatten":
            modules.append(nn.Flatten())
        if weight is None:
            continue
        outputs, inputs = weight.shape[:2]
        made = nn.Linear(inputs, outputs)
        if kind == "conv":
            groups = outputs if layer["is_depthwise"] else 1
            made = conv(inputs * groups, outputs, kernel, stride, kernel // 2, groups=groups)
        with torch.no_grad():
            made.weight.copy_(weight)
            made.bias.copy_(torch.from_numpy(weights[f"{index}.bias"]))
        modules.append(made)
        if layer["has_relu"]:
            modules.append(nn.ReLU(inplace=True))
    return nn.Sequential(*modules)


def main() -> None:
    job = json.loads(Path(sys.argv[1]).read_text())
    torch.set_num_threads(job["threads"])
    with np.load(job["data"]) as archive:
        data = {name: archive[name] for name in archive.files}
    net = build(job["layers"], data, data["inputs"].ndim - 2)
    inputs, labels = torch.from_numpy(data["inputs"]), torch.from_numpy(data["labels"])
    if job["layout"] == "channels_last":
        # A sequence is an image one row high; PyTorch has no channels_last for three axes.
        net, inputs = net.to(memory_format=torch.channels_last), inputs.contiguous(memory_format=torch.channels_last)
    optimizer = torch.optim.AdamW(net.parameters(), lr=job["learning_rate"], weight_decay=job["weight_decay"])
    loss_of = nn.CrossEntropyLoss()
    clock = time.process_time if job["clock"] == "cpu" else time.perf_counter
    for line in sys.stdin:
        times, losses = [], []
        for _ in itertools.repeat(None, int(line)):
            start = clock()
            optimizer.zero_grad(set_to_none=True)
            loss = loss_of(net(inputs), labels)
            loss.backward()
            optimizer.step()
            losses.append(loss.item())
            times.append((clock() - start) * 1e3)
        status = Path("/proc/self/status").read_text().split()
        peak_mib = int(status[status.index("VmHWM:") + 1]) / 1024
        sys.stdout.write(json.dumps({"ms": times, "losses": losses, "peak_mib": peak_mib}) + "\n")
        sys.stdout.flush()


if __name__ == "__main__":
    main()
