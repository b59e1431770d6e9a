"""How is the gradient of a convolution's weights made? Three ways, chosen by shape; measured in docs/performance.md."""

import itertools
from math import prod

from mmd_tools.lowering.emitter import Emitter
from mmd_tools.lowering.windows import Window, pad

_FEWEST_SHIFTED_CHANNELS = 6
"""With fewer, a product a tap is too thin to pay."""
_WIDEST_BY_ROWS = 48
"""Products of whole rows compute as many numbers a row as it has places; with more, unfolding takes less."""
_TO_THE_END = 2**62


def weight_gradient(e: Emitter, d_y: str, x: str, w: str, window: Window, groups: int, *, to: str) -> None:
    """dW[m, c, k] = sum over n and positions o of dY[n, m, o] * X[n, c, o * stride + k * dilation - pad]."""
    outputs, channels, *_ = e.sizes(w)
    e.mark("weights", to, tensors={"x": x, "d_y": d_y}, groups=groups, **window.as_mark)
    is_dense = groups == 1 and set(window.strides) == {1} and channels >= _FEWEST_SHIFTED_CHANNELS
    # A product a sample writes `outputs * channels` numbers each; one over the batch moves both images first.
    is_pointwise = prod(window.kernel) == 1 and outputs * channels < prod(window.outputs) * (outputs + channels)
    if is_dense and not is_pointwise:
        _by_shifts(e, d_y, x, w, window, to=to)
    elif groups == outputs and channels == 1 and len(window.kernel) == 2 and window.outputs[1] <= _WIDEST_BY_ROWS:
        _by_rows(e, d_y, x, w, window, to=to)
    else:
        _by_columns(e, d_y, x, w, window, groups, to=to)


def _by_columns(e: Emitter, d_y: str, x: str, w: str, window: Window, groups: int, *, to: str) -> None:
    """One product with what all taps see side by side; any stride and groups."""
    outputs, channels, *_ = e.sizes(w)
    positions, taps = prod(window.outputs), prod(window.kernel)
    columns = e.reshape(_unfold(e, x, window), 0, groups, channels * taps, positions)
    rows = e.reshape(d_y, 0, groups, outputs // groups, positions)
    per_sample = e.emit("MatMul", rows, e.emit("Transpose", columns, perm=(0, 1, 3, 2)))
    e.reshape(e.reduce_sum(per_sample, (0,), keepdims=False), outputs, channels, *window.kernel, to=to)


def _by_shifts(e: Emitter, d_y: str, x: str, w: str, window: Window, *, to: str) -> None:
    """One product a tap over the whole batch, each with a contiguous piece of the flat padded X.

    Both tensors get their channels first, and rows of one length: position o of dY then meets place o + shift of X.
    The padding before a row, or a picture, is also that after the one before. dY's rows are filled up with zeros, so
    what they meet does not matter.
    """
    outputs, channels, *_ = e.sizes(w)
    rank = len(window.kernel)
    shared = [max(0, min(begin, end)) for begin, end in zip(window.begins, window.ends, strict=True)]
    lengths = [max(r - s, o) for r, s, o in zip(window.reach, shared, window.outputs, strict=True)]
    pitches = [prod(lengths[axis + 1 :]) for axis in range(rank)]
    taps = itertools.product(*(range(k) for k in window.kernel))
    shifts = [sum(t * d * p for t, d, p in zip(tap, window.dilations, pitches, strict=True)) for tap in taps]
    picture = prod(lengths)
    # Whole pictures of zeros at the end, for the last picture's last shift to look into.
    spare = -(-shifts[-1] // picture)
    ends = [n - b - i for n, b, i in zip(lengths, window.begins, window.inputs, strict=True)]
    flat_x = e.reshape(_channels_first(e, x, window.begins, ends, spare), channels, -1)
    filler = [n - o for n, o in zip(lengths, window.outputs, strict=True)]
    flat_y = e.reshape(_channels_first(e, d_y, (0,) * rank, filler, 0), outputs, -1)
    products = []
    for shift in shifts:
        end = shift - spare * picture
        seen = e.emit("Slice", flat_x, e.integers(shift), e.integers(end or _TO_THE_END), e.integers(1))
        products.append(e.emit("Gemm", flat_y, seen if shifts[-1] else flat_x, transB=1))
    if len(products) == 1:
        e.reshape(products[0], outputs, channels, *window.kernel, to=to)
        return
    stacked = e.reshape(e.emit("Concat", *products, axis=0), len(products), outputs * channels)
    e.reshape(e.emit("Transpose", stacked, perm=(1, 0)), outputs, channels, *window.kernel, to=to)


def _channels_first(e: Emitter, x: str, begins: tuple[int, ...], ends: list[int], spare: int) -> str:
    """[n, C, *inputs] -> [C, n + spare, *padded]; the spare pictures are zeros."""
    rank = len(begins)
    swapped = e.emit("Transpose", x, perm=(1, 0, *range(2, 2 + rank)))
    if not any((*begins, *ends, spare)):
        return swapped
    return e.emit("Pad", swapped, e.integers(0, 0, *begins, 0, spare, *ends))


def _by_rows(e: Emitter, d_y: str, x: str, w: str, window: Window, *, to: str) -> None:
    """Depthwise: one product a row of the kernel, of all columns of dY with all columns of X, summed over the rows.

    Of a product [w, W] the places [o, o * stride + k * dilation - pad] are wanted. In a matrix whose rows are longer by
    the stride, what lies one below the other, so that a sum of the rows is the sum wanted. A product of so many
    numbers too many takes less than to copy X once for each tap.
    """
    channels, (high, wide) = e.sizes(w)[0], window.kernel
    (row_stride, stride), (row_dilation, dilation) = window.strides, window.dilations
    rows, columns = window.outputs
    image = _channels_first(e, x, (window.begins[0], 0), [window.ends[0], 0], 0)
    flat_y = e.reshape(e.emit("Transpose", d_y, perm=(1, 0, 2, 3)), channels, -1, columns)
    turned = e.emit("Transpose", flat_y, perm=(0, 2, 1))
    products = []
    for row in range(high):
        start = row * row_dilation
        stop = start + (rows - 1) * row_stride + 1
        seen = e.emit("Slice", image, e.integers(start), e.integers(stop), e.integers(2), e.integers(row_stride))
        product = e.emit("MatMul", turned, e.reshape(seen, channels, -1, window.inputs[1]))
        products.append(e.reshape(product, channels, 1, columns, window.inputs[1]))
    stacked = e.emit("Concat", *products, axis=1) if high > 1 else products[0]
    padded = e.emit("Pad", stacked, e.integers(0, 0, 0, window.begins[1], 0, 0, 0, window.ends[1]))
    flat = e.reshape(padded, channels, high, columns * window.reach[1])
    longer = e.emit("Pad", flat, e.integers(0, 0, 0, 0, 0, columns * stride))
    diagonals = e.reshape(longer, channels, high, columns, window.reach[1] + stride)
    summed = e.reduce_sum(diagonals, (2,), keepdims=False)
    ends = e.integers((wide - 1) * dilation + 1)
    taken = e.emit("Slice", summed, e.integers(0), ends, e.integers(2), e.integers(dilation))
    e.reshape(taken, channels, 1, high, wide, to=to)


def _unfold(e: Emitter, x: str, window: Window) -> str:
    """[n, C, *inputs] -> [n, C, taps, positions]: what each tap of the kernel sees (im2col)."""
    channels = e.sizes(x, start=1)[0]
    rank, positions = len(window.kernel), prod(window.outputs)
    if {*window.kernel, *window.strides} == {1} and not any((*window.begins, *window.ends)):
        return e.reshape(x, 0, channels, 1, positions)
    x = pad(e, x, window.begins, window.ends)
    axes, steps = e.integers(*range(2, 2 + rank)), e.integers(*window.strides)
    seen = []
    for tap in itertools.product(*(range(k) for k in window.kernel)):
        starts = [t * d for t, d in zip(tap, window.dilations, strict=True)]
        stops = [a + (o - 1) * s + 1 for a, o, s in zip(starts, window.outputs, window.strides, strict=True)]
        part = e.emit("Slice", x, e.integers(*starts), e.integers(*stops), axes, steps)
        seen.append(e.reshape(part, 0, channels, 1, positions))
    return e.emit("Concat", *seen, axis=2) if len(seen) > 1 else seen[0]
