"""PyOD's VAE in batches by hand."""

from __future__ import annotations

from .pyod_vae import main

BATCH = 1_000

if __name__ == "__main__":
    main(BATCH)
