"""The one instruction that Python has no word for: have a cache line on its way before it is needed."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Final, cast

import numpy as np
import numpy.typing as npt
from llvmlite import ir
from numba import types
from numba.core import cgutils
from numba.extending import intrinsic

_TO_WRITE: Final = 1
_ALL_CACHES: Final = 3
_DATA: Final = 1


def _typed(_context: object, array: object, index: object) -> tuple[object, Callable[..., object]]:
    return cast("Any", types).void(array, index), _emitted


def _emitted(context: Any, builder: Any, signature: Any, arguments: Any) -> object:  # noqa: ANN401 - numba's own, untyped
    view = context.make_array(signature.args[0])(context, builder, arguments[0])
    address = builder.gep(view.data, [arguments[1]])
    number = ir.IntType(32)
    kind = ir.FunctionType(ir.VoidType(), [address.type, number, number, number])
    function = cast("Any", cgutils).get_or_insert_function(builder.module, kind, "llvm.prefetch.p0")
    builder.call(function, [address, number(_TO_WRITE), number(_ALL_CACHES), number(_DATA)])
    return context.get_dummy_value()


#: ``prefetch(array, index)`` in a compiled loop; no effect but on time. Past the array's end it does nothing.
prefetch = cast("Callable[[npt.NDArray[np.uint64], np.int64], None]", intrinsic(_typed))
