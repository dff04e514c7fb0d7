"""PyOD's VAE, its defaults, on each record or on batches by hand. No threshold is applied to what it returns."""

from __future__ import annotations

import torch
from pyod.models.vae import VAE

from .loop import Trained, arguments, run

EPOCHS, FIT_BATCH = 5, 256


def main(batch: int = 1) -> None:
    told = arguments()
    torch.set_num_threads(1)  # the other core is the broker's; with two, each call waits for the later
    trained = Trained(told)
    model = VAE(epoch_num=EPOCHS, batch_size=FIT_BATCH, verbose=0).fit(trained.rows())
    run(told, lambda values, _: model.decision_function(trained.unit(values), batch), batch)


if __name__ == "__main__":
    main()
