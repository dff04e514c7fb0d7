"""The panel: a few differently built members on one whitened window, and the compiled scorer of a batch.

One function, `score_row`, says how one record is scored. The scorer runs it over blocks of a constant number
of rows in a compiled loop, because XLA's rounding depends on the shape it was compiled for: a row's result is
then the same to the bit however many rows are in the call, wherever it stands and whoever its neighbours are.
"""

from __future__ import annotations

from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import cache
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax
from numpy.typing import NDArray

from . import scaling
from .members import TABLE
from .members.base import Part, Row
from .whitening import Whitening

SHARED_BLOCK_ROWS = 256
OWN_BLOCK_ROWS = (
    16  # rows of one panel per block where each entity has its own: fewer are padded when batches are thin
)
LADDER = (16, 256)
"""Blocks per call that are compiled. Never a single one: over one block XLA drops the loop, fuses what is in it with
what is around it, and rounds otherwise (measured at 25 channels and 1 lag: 33 of 60 calls differed in a last bit)."""
SPLIT_FROM = 5
"""Blocks from which on a call is worth two devices."""
LEAST_EXCESS = 0.01


class PanelParams(NamedTuple):
    """P fitted panels as a pytree of float32 arrays, each with a leading axis P.

    whitening: mean [P, D], basis [P, D, K], spread [P, K]; ordinary [P, M] each member's median over train
    (floored above 0), members in the order of `member_names`; members: name -> that member's params.
    """

    whitening: Whitening
    ordinary: jax.Array
    members: dict[str, Any]


class RowScore(NamedTuple):
    """One record's results, by the version's C columns."""

    members: jax.Array
    """[M]"""
    shares: jax.Array
    """[C]"""
    expected: jax.Array
    """[C] raw units"""
    level: jax.Array
    """[]"""


class Scored(NamedTuple):
    """n records' results, float32."""

    members: NDArray[np.float32]
    """[n, M] larger is stranger, >= 0"""
    shares: NDArray[np.float32]
    """[n, F] attribution, >= 0, sums to 1; 0 for missing channels and for columns the version does not use"""
    expected: NDArray[np.float32]
    """[n, F] forecast in raw units; NaN for columns the version does not use"""
    level: NDArray[np.float32]
    """[n] mean of the newest scaled values present"""


def member_names(params: PanelParams) -> tuple[str, ...]:
    """The panel's members, in the order of the scored columns."""
    return tuple(name for name in TABLE if name in params.members)


def scale_row(
    window: jax.Array, jump: jax.Array, location: jax.Array
) -> tuple[jax.Array, jax.Array, jax.Array]:
    """Scaled window [L, C] and jump [C] (0 where missing), and presence [C] as 0/1, of raw values."""
    finite = jnp.isfinite(window)
    mean, sd = location[None, scaling.MEAN], location[None, scaling.SD]
    z = scaling.scale(jnp.where(finite, window, jnp.nan), mean, sd)
    there = finite[-1] & jnp.isfinite(jump)
    r = scaling.scale(jnp.where(there, jump, jnp.nan), location[scaling.JUMP_MEAN], location[scaling.JUMP_SD])
    return z, r, finite[-1].astype(jnp.float32)


def score_scaled(
    params: PanelParams, z: jax.Array, r: jax.Array, present: jax.Array, phase: jax.Array
) -> tuple[Row, dict[str, Part]]:
    """Whiten one scaled window and ask every member. `params` of one panel, without the leading axis."""
    centred = z.reshape(-1) - params.whitening.mean
    rotated = centred @ params.whitening.basis
    row = Row(z, present, r, centred, rotated, rotated / params.whitening.spread, params.whitening, phase)
    return row, {name: TABLE[name].score(params.members[name], row) for name in member_names(params)}


def attribution(params: PanelParams, row: Row, parts: dict[str, Part]) -> jax.Array:
    """Share of each channel [C] in what is strange about one record.

    shares = sum_m a_m p_m / sum_m a_m over the members that can tell channels apart, where p_m are the parts
    of member m of the present channels, normalised to sum 1, and a_m = max(ln(value_m / ordinary_m), .01) is
    its excess over ordinary (0 where all its parts are 0). All zero if no channel has any part.
    """
    total = jnp.zeros_like(row.present)
    weight = jnp.zeros((), jnp.float32)
    for m, part in enumerate(parts.values()):
        if part.channels is None:
            continue
        channels = part.channels * row.present
        whole = jnp.sum(channels)
        ratio = jnp.maximum(part.value / params.ordinary[m], 1e-30)
        excess = jnp.where(whole > 0.0, jnp.maximum(jnp.log(ratio), LEAST_EXCESS), 0.0)
        total = total + channels * (excess / jnp.where(whole > 0.0, whole, 1.0))
        weight = weight + excess
    return total / jnp.where(weight > 0.0, weight, 1.0)


def score_row(
    params: PanelParams, window: jax.Array, jump: jax.Array, location: jax.Array, phase: jax.Array
) -> RowScore:
    """Score one record by one panel: raw window [L, C], raw jump [C] (NaN = missing), location [4, C], phase []."""
    z, r, present = scale_row(window, jump, location)
    row, parts = score_scaled(params, z, r, present, phase)
    forecasts = [part.forecast for part in parts.values() if part.forecast is not None]
    expected = scaling.soft_unclip(forecasts[0]) if forecasts else jnp.zeros_like(r)
    return RowScore(
        jnp.stack([part.value for part in parts.values()]),
        attribution(params, row, parts),
        location[scaling.MEAN] + location[scaling.SD] * expected,
        jnp.sum(z[-1]) / jnp.maximum(jnp.sum(present), 1.0),
    )


_Rows = tuple[NDArray[np.float32], NDArray[np.float32], NDArray[np.float32], NDArray[np.float32]]
"""window, jump, location, phase"""


class _Plan(NamedTuple):
    """What the compiled program depends on besides array shapes."""

    features: int
    columns: tuple[int, ...]
    shared: bool


class _Program:
    """The jitted loop over blocks for one plan, with a count of what was traced."""

    def __init__(self, plan: _Plan) -> None:
        self.traces = 0
        self._plan = plan
        self.run = jax.jit(self._blocks)
        self._one = jax.jit(self._block, inline=True)  # traced once for all rungs

    def _blocks(
        self,
        params: PanelParams,
        first: jax.Array,
        end: jax.Array,
        panel: jax.Array,
        window: jax.Array,
        jump: jax.Array,
        location: jax.Array,
        phase: jax.Array,
    ) -> RowScore:
        """Score the blocks from `first` up to before `end`: panel [blocks], window [blocks, rows, L, F], ...

        What stands in the place of the others is zero.
        """
        self.traces += 1
        blocks, rows = window.shape[:2]
        wide = (blocks, rows, self._plan.features)
        empty = RowScore(
            jnp.zeros((blocks, rows, len(member_names(params))), jnp.float32),
            jnp.zeros(wide, jnp.float32),
            jnp.zeros(wide, jnp.float32),
            jnp.zeros((blocks, rows), jnp.float32),
        )

        def body(i: jax.Array, out: RowScore) -> RowScore:
            block = self._one(params, panel[i], window[i], jump[i], location[i], phase[i])
            return RowScore(*(whole.at[i].set(part) for whole, part in zip(out, block, strict=True)))

        done = lax.fori_loop(first, end, body, empty)
        return RowScore(*(a.reshape(blocks * rows, *a.shape[2:]) for a in done))

    def _block(
        self,
        params: PanelParams,
        panel: jax.Array,
        window: jax.Array,
        jump: jax.Array,
        location: jax.Array,
        phase: jax.Array,
    ) -> RowScore:
        plan = self._plan
        one: PanelParams = jax.tree.map(lambda a: a[0] if plan.shared else a[panel], params)
        columns = np.asarray(plan.columns, np.int32)
        if plan.columns != tuple(range(plan.features)):
            window, jump, location = window[..., columns], jump[..., columns], location[..., columns]
        scored = jax.vmap(score_row, in_axes=(None, 0, 0, 0, 0))(one, window, jump, location, phase)
        if plan.columns == tuple(range(plan.features)):
            return scored
        blank = jnp.zeros((window.shape[0], plan.features), jnp.float32)
        return scored._replace(
            shares=blank.at[:, columns].set(scored.shares),
            expected=(blank * jnp.nan).at[:, columns].set(scored.expected),
        )


@cache
def _program(plan: _Plan) -> _Program:
    """Shared by all scorers of a plan, so that a promoted version of the same shape compiles nothing."""
    return _Program(plan)


class Scorer:
    """The compiled panel of one model version, for the features of one stream; for one thread at a time.

    `columns` are the positions in the stream's features that the version uses, in its order (all by default);
    `features` is the stream's F. With one panel it serves every row; with several, rows are put in blocks of
    equal panel first.
    """

    def __init__(
        self, params: PanelParams, columns: Sequence[int] | None = None, features: int | None = None
    ) -> None:
        self.members = member_names(params)
        size = params.whitening.mean.shape[1]
        width = _width(params, size) if columns is None else len(columns)
        chosen = tuple(range(width)) if columns is None else tuple(int(c) for c in columns)
        self.features = width if features is None else features
        self.lags = size // width
        self.panels = int(params.whitening.mean.shape[0])
        cast = jax.tree.map(lambda a: jnp.asarray(a, jnp.float32), params)
        self._params = [jax.device_put(cast, device) for device in jax.devices("cpu")[:2]]
        self._program = _program(_Plan(self.features, chosen, self.panels == 1))
        self._rows = SHARED_BLOCK_ROWS if self.panels == 1 else OWN_BLOCK_ROWS
        self._traces_before = self._program.traces
        self._scratch: dict[tuple[int, tuple[tuple[int, ...], ...]], list[NDArray[np.float32]]] = {}

    @property
    def compilations(self) -> int:
        """How many shapes were compiled since this scorer was made; never more than `len(LADDER)`."""
        return self._program.traces - self._traces_before

    def warm(self) -> None:
        """Compile every shape for every device, side by side, so that no record waits for it."""
        with ThreadPoolExecutor(len(self._params)) as pool:
            compiling = [
                pool.submit(self._program.run.lower(params, *self._shapes(blocks)).compile)
                for blocks in LADDER
                for params in self._params
            ]
        for one in compiling:
            one.result()

    def _shapes(self, blocks: int) -> tuple[Any, ...]:
        """What stands behind the params in a call of so many blocks."""
        rows = self._rows

        def block(*shape: int) -> jax.ShapeDtypeStruct:
            return jax.ShapeDtypeStruct((blocks, *shape), jnp.float32)

        return (
            np.int32(0),
            np.int32(blocks),
            jax.ShapeDtypeStruct((blocks,), jnp.int32),
            block(rows, self.lags, self.features),
            block(rows, self.features),
            block(rows, 4, self.features),
            block(rows),
        )

    def score(
        self,
        panel: NDArray[np.int32],
        window: NDArray[np.float32],
        jump: NDArray[np.float32],
        location: NDArray[np.float32],
        phase: NDArray[np.float32],
    ) -> Scored:
        """Score n records: panel [n], raw window [n, L, F] and jump [n, F], location [n, 4, F], phase [n].

        `phase` is that of `scaling.phase_of_day`; a panel that is not conditioned on it looks at none.
        """
        rows = (window, jump, location, phase)
        return self._in_order(rows) if self.panels == 1 else self._by_panel(panel, rows)

    def _in_order(self, rows: _Rows) -> Scored:
        most = LADDER[-1] * self._rows
        parts = []
        for first in range(0, max(len(rows[0]), 1), most):
            n = min(most, len(rows[0]) - first)
            count = -(-n // self._rows)
            blocks = _rung(count)
            given = [a[first : first + n] for a in rows]
            if n < blocks * self._rows:
                scratch = self._room(blocks, given)
                for room, a in zip(scratch, given, strict=True):
                    room[:n] = a
                given = scratch
            done = self._call(blocks, count, np.zeros(blocks, np.int32), *given)
            parts.append(Scored(*(a[:n] for a in done)))
        return parts[0] if len(parts) == 1 else Scored(*(np.concatenate(a) for a in zip(*parts, strict=True)))

    def _by_panel(self, panel: NDArray[np.int32], rows: _Rows) -> Scored:
        """Each panel's rows fill blocks of their own; the answers return to the order of the rows."""
        n = len(panel)
        order = np.argsort(panel, kind="stable")
        counts = np.bincount(panel, minlength=self.panels)
        needed = -(-counts // self._rows)
        starts = np.cumsum(needed) - needed
        within = np.arange(n) - np.repeat(np.cumsum(counts) - counts, counts)
        place = np.empty(n, np.intp)
        place[order] = starts[panel[order]] * self._rows + within
        owner = np.repeat(np.arange(self.panels, dtype=np.int32), needed)
        out = Scored(
            np.empty((n, len(self.members)), np.float32),
            np.empty((n, self.features), np.float32),
            np.empty((n, self.features), np.float32),
            np.empty(n, np.float32),
        )
        for first in range(0, len(owner), LADDER[-1]):
            count = min(LADDER[-1], len(owner) - first)
            blocks = _rung(count)
            here = place - first * self._rows
            if len(owner) > LADDER[-1]:
                chosen = np.flatnonzero((here >= 0) & (here < count * self._rows))
                here = here[chosen]
            else:
                chosen = np.arange(n)
            whose = np.zeros(blocks, np.int32)
            whose[:count] = owner[first : first + count]
            scratch = self._room(blocks, rows)
            for room, a in zip(scratch, rows, strict=True):
                room[here] = a[chosen]
            for whole, part in zip(out, self._call(blocks, count, whose, *scratch), strict=True):
                whole[chosen] = part[here]
        return out

    def _room(self, blocks: int, like: Sequence[NDArray[np.float32]]) -> list[NDArray[np.float32]]:
        """Arrays of `blocks` blocks to lay rows into; what stands in the rest of them is never looked at.

        Kept between calls, which return only when the compiled program is done with them, and aligned so that
        it reads them where they are.
        """
        shapes = tuple(a.shape[1:] for a in like)
        if (blocks, shapes) not in self._scratch:
            rows = blocks * self._rows
            self._scratch[blocks, shapes] = [_aligned((rows, *shape)) for shape in shapes]
        return self._scratch[blocks, shapes]

    def _call(
        self,
        blocks: int,
        count: int,
        panel: NDArray[np.int32],
        *rows: NDArray[np.float32],
    ) -> Scored:
        folded = [a.reshape(blocks, self._rows, *a.shape[1:]) for a in rows]
        # Handed over together, for each device a part: what one device is given it computes one by one.
        border = count // 2 if len(self._params) > 1 and count >= SPLIT_FROM else count
        parts = [(0, border), (border, count)] if border < count else [(0, count)]
        done = [
            self._program.run(params, np.int32(first), np.int32(end), panel, *folded)
            for params, (first, end) in zip(self._params, parts, strict=False)
        ]
        if len(done) == 1:
            return Scored(*(np.asarray(a) for a in done[0]))
        row = border * self._rows
        return Scored(
            *(np.concatenate([np.asarray(a)[:row], np.asarray(b)[row:]]) for a, b in zip(*done, strict=True))
        )


def _width(params: PanelParams, size: int) -> int:
    """Number of channels, from the member that keeps one value per channel."""
    errs = params.members.get("errs")
    return size if errs is None else int(errs.mean.shape[1])


def _rung(count: int) -> int:
    return next(blocks for blocks in LADDER if blocks >= count)


def _aligned(shape: tuple[int, ...]) -> NDArray[np.float32]:
    """Zeros that begin on a 64-byte boundary, as XLA asks of memory it is to use in place."""
    size = 4 * int(np.prod(shape))
    raw = np.zeros(size + 64, np.uint8)
    first = -raw.ctypes.data % 64
    return raw[first : first + size].view(np.float32).reshape(shape)
