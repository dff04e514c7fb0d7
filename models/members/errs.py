"""One-step surprises: how far each channel lands from its linear forecast from the records just before."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from ..scaling import soft_clip
from .base import FitData, Guide, Member, Part, Row

PAST_RECORDS = 4
RIDGE = 0.01
SD_FLOOR = 0.03


class ErrsParams(NamedTuple):
    """The linear forecast and the scale of its errors."""

    coefficients: jax.Array
    """[p*F, F], of the p = min(L, 5) - 1 records before, oldest first"""
    mean: jax.Array
    """[F] of the scaled newest value"""
    sd: jax.Array
    """[F] of the errors"""


def fit(data: Sequence[FitData], guide: Guide) -> list[ErrsParams]:
    """B = (C_pp + .01 I)^-1 C_pt from the whitening's covariance; the errors' sd from the values present."""
    return [_fit_one(panel) for panel in data]


def score(params: ErrsParams, row: Row) -> Part:
    """sum v_j^2 over present channels, v = soft((z - forecast) / sd); with one lag, v = soft(z)."""
    newest, features = row.z[-1], row.z.shape[1]
    past = params.coefficients.shape[0]
    if past == 0:
        v = soft_clip(newest) * row.present
        return Part(jnp.sum(v * v), v * v, params.mean)
    forecast = params.mean + row.centred[-features - past : -features] @ params.coefficients
    v = soft_clip((newest - forecast) / params.sd) * row.present
    return Part(jnp.sum(v * v), v * v, forecast)


def _fit_one(data: FitData) -> ErrsParams:
    _, lags, features = data.windows.shape
    past = (min(lags, PAST_RECORDS + 1) - 1) * features
    size = lags * features
    before = slice(size - features - past, size - features)
    now = slice(size - features, size)
    mean, covariance = data.moments
    coefficients = np.linalg.solve(covariance[before, before] + RIDGE * np.eye(past), covariance[before, now])
    flat = data.windows.reshape(-1, size)
    errors = flat[:, now] - mean[now] - (flat[:, before] - mean[before]) @ coefficients
    count = np.maximum(data.present.sum(axis=0), 1)
    middle = np.where(data.present, errors, 0.0).sum(axis=0) / count
    spread = np.where(data.present, errors - middle, 0.0)
    sd = np.maximum(np.sqrt((spread * spread).sum(axis=0) / count), SD_FLOOR)
    return ErrsParams(*(jnp.asarray(a, jnp.float32) for a in (coefficients, mean[now], sd)))


MEMBER = Member("errs", False, ErrsParams, fit, score)
