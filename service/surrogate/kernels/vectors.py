"""Explicit vectors for the two hottest loops of the design rows.

These loops are 26 to 100 numbers long. There LLVM's own vectoriser spends half of the time on tests for aliasing and on
remainders (measured: 30 % of a design row). Written as vectors of eight they need neither. Any target is served: LLVM
splits it into what the processor has. Arrays are read in whole vectors, so rows must be padded to `WIDTH`.

numba's disk cache notices changes of `kernels` only: touch that file after a change here.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, cast

import numba.extending
from llvmlite import ir
from numba.core import cgutils, types

__all__ = ["BLOCK", "WIDTH", "slopes_and_sums", "weighted_sum"]

WIDTH = 8
"""Numbers in a vector; runs of neighbours are padded to it."""
UNROLLED = 4
BLOCK = WIDTH * UNROLLED
"""`weighted_sum` takes rows of a multiple of this."""

INT, F64 = ir.IntType(64), ir.DoubleType()
VECTOR = ir.VectorType(F64, WIDTH)
FAST = ("fast",)


def intrinsic(emitter: Callable[..., Any]) -> Callable[..., None]:
    """A function of compiled code, called without the typing context."""
    return cast(Callable[..., None], numba.extending.intrinsic(emitter))


class _Emitter:
    """Loads, stores and arithmetic of vectors."""

    def __init__(self, context: Any, builder: Any, signature: Any, args: Any) -> None:
        self.builder = builder
        self.structs: list[Any] = [
            context.make_array(t)(context, builder, a) if isinstance(t, types.Array) else None
            for t, a in zip(signature.args, args, strict=True)
        ]

    def row(self, array: int, k: Any) -> Any:
        """Pointer to row `k` of a two-dimensional argument whose rows are contiguous."""
        struct = self.structs[array]
        stride = self.builder.extract_value(struct.strides, 0)
        address = self.builder.add(self.builder.ptrtoint(struct.data, INT), self.builder.mul(k, stride))
        return self.builder.inttoptr(address, F64.as_pointer())

    def start(self, array: int) -> Any:
        """Pointer to the first number of a one-dimensional argument."""
        return self.structs[array].data

    def number(self, pointer: Any, at: Any) -> Any:
        return self.builder.load(self.builder.gep(pointer, [at]))

    def load(self, pointer: Any, at: Any) -> Any:
        place = self.builder.bitcast(self.builder.gep(pointer, [at]), VECTOR.as_pointer())
        return self.builder.load(place, align=8)

    def store(self, value: Any, pointer: Any, at: Any) -> None:
        place = self.builder.bitcast(self.builder.gep(pointer, [at]), VECTOR.as_pointer())
        self.builder.store(value, place, align=8)

    def fma(self, a: Any, b: Any, c: Any) -> Any:
        return self.builder.fadd(self.builder.fmul(a, b, flags=FAST), c, flags=FAST)

    def spread(self, number: Any) -> Any:
        """A vector of one number."""
        blank = ir.Constant(VECTOR, ir.Undefined)
        lanes = ir.Constant(ir.VectorType(ir.IntType(32), WIDTH), [0] * WIDTH)
        first = self.builder.insert_element(blank, number, ir.Constant(ir.IntType(32), 0))
        return self.builder.shuffle_vector(first, blank, lanes)

    def total(self, vector: Any) -> Any:
        """The sum of a vector's numbers."""
        name = f"llvm.vector.reduce.fadd.v{WIDTH}f64"
        kind = ir.FunctionType(F64, [F64, VECTOR])
        reduce = cgutils.get_or_insert_function(self.builder.module, kind, name)
        return self.builder.call(reduce, [ir.Constant(F64, 0.0), vector], fastmath=FAST)

    def sums(self, count: int) -> list[Any]:
        """Accumulators, zeroed here and now; LLVM keeps them in registers."""
        zero = ir.Constant(VECTOR, [0.0] * WIDTH)
        found = [cgutils.alloca_once(self.builder, VECTOR) for _ in range(count)]
        for accumulator in found:
            self.builder.store(zero, accumulator)
        return found

    def accumulate(self, accumulator: Any, a: Any, b: Any) -> None:
        self.builder.store(self.fma(a, b, self.builder.load(accumulator)), accumulator)


@intrinsic
def weighted_sum(typing: Any, first: Any, last: Any, index: Any, weight: Any, rows: Any, width: Any, out: Any) -> Any:
    """out[:width] = sum of weight[h] rows[index[h], :width] over first <= h < last; `width` a multiple of `BLOCK`."""

    def emit(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        e = _Emitter(context, builder, signature, args)
        lo, hi, stop = args[0], args[1], args[5]
        count, blocks = builder.sub(hi, lo), builder.udiv(stop, ir.Constant(INT, BLOCK))
        with cgutils.for_range(builder, blocks) as outer:
            at = [
                builder.add(builder.mul(outer.index, ir.Constant(INT, BLOCK)), ir.Constant(INT, WIDTH * u))
                for u in range(UNROLLED)
            ]
            sums = e.sums(UNROLLED)
            with cgutils.for_range(builder, count) as inner:
                h = builder.add(lo, inner.index)
                factor = e.spread(e.number(e.start(3), h))
                row = e.row(4, e.number(e.start(2), h))
                for place, accumulator in zip(at, sums, strict=True):
                    e.accumulate(accumulator, factor, e.load(row, place))
            for place, accumulator in zip(at, sums, strict=True):
                e.store(builder.load(accumulator), e.start(6), place)
        return context.get_dummy_value()

    return types.void(types.intp, types.intp, index, weight, rows, types.intp, out), emit


@intrinsic
def slopes_and_sums(typing: Any, n: Any, slope: Any, value: Any, along: Any, across: Any, d: Any, out: Any) -> Any:
    """The slopes of one function along x, y and z for `n` neighbours, then their sums and virial sums, in `out`.

    f_x[t] = slope[t] along[x, t] + value[t] across[x, t]; out = f_x, f_y, f_z, each of length n, then the sums of f_x,
    f_y, f_z, and of f_a d_b for xx yy zz yz xz xy. `slope` and `value` are zero from n to the next multiple of `WIDTH`.
    """

    def emit(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        e = _Emitter(context, builder, signature, args)
        size = args[0]
        blocks = builder.udiv(builder.add(size, ir.Constant(INT, WIDTH - 1)), ir.Constant(INT, WIDTH))
        sums = []  # (column behind the slopes, accumulator)
        for x, pairs in enumerate((((0, 3), (1, 8), (2, 7)), ((1, 4), (2, 6)), ((2, 5),))):
            axis = ir.Constant(INT, x)
            base = builder.gep(e.start(6), [builder.mul(size, axis)])
            mine = e.sums(1 + len(pairs))
            with cgutils.for_range(builder, blocks) as loop:
                at = builder.mul(loop.index, ir.Constant(INT, WIDTH))
                straight = builder.fmul(e.load(e.start(1), at), e.load(e.row(3, axis), at), flags=FAST)
                f = e.fma(e.load(e.start(2), at), e.load(e.row(4, axis), at), straight)
                e.store(f, base, at)  # what it writes past n, the next axis or the sums write over
                builder.store(builder.fadd(builder.load(mine[0]), f, flags=FAST), mine[0])
                for (b, _), accumulator in zip(pairs, mine[1:], strict=True):
                    e.accumulate(accumulator, f, e.load(e.row(5, ir.Constant(INT, b)), at))
            sums += list(zip((x, *(column for _, column in pairs)), mine, strict=True))
        behind = builder.gep(e.start(6), [builder.mul(size, ir.Constant(INT, 3))])
        for column, accumulator in sums:
            builder.store(e.total(builder.load(accumulator)), builder.gep(behind, [ir.Constant(INT, column)]))
        return context.get_dummy_value()

    return types.void(types.intp, slope, value, along, across, d, out), emit
