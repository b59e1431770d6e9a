"""Is it told what is behind an error?"""

import pytest

from mmd.errors import ArtifactRefused, is_out_of_memory


def caused(cause: BaseException) -> BaseException:
    error = ArtifactRefused("The graph does not load.")
    error.__cause__ = cause
    return error


@pytest.mark.parametrize(
    ("error", "expected"),
    [
        (MemoryError(), True),
        (OSError(12, "Cannot allocate memory"), True),
        (RuntimeError("[ONNXRuntimeError] : 6 : RUNTIME_EXCEPTION : std::bad_alloc"), True),
        (RuntimeError("bfc_arena.cc: Failed to allocate memory for requested buffer of size 4096"), True),
        (ImportError("libonnxruntime.so: failed to map segment from shared object"), True),
        (SystemError("error return without exception set"), True),
        (caused(MemoryError()), True),
        (caused(ValueError("a shape")), False),
        (OSError(28, "No space left on device"), False),
    ],
)
def test_the_want_of_memory_is_told_from_other_errors(error: BaseException, expected: bool) -> None:
    assert is_out_of_memory(error) is expected
