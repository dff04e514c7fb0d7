"""numalogic's Conv1dVAE on the window of each record, called as its inference step calls it, without Numaflow."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from numalogic.models.vae.variants import Conv1dVAE
from numalogic.tools.trainer import TimeseriesTrainer
from torch.utils.data import DataLoader

from .loop import Trained, Windows, arguments, run

LAGS, LATENT, EPOCHS, FIT_BATCH = 5, 8, 5, 256


def main() -> None:
    told = arguments()
    torch.set_num_threads(1)  # the other core is the broker's; with two, each call waits for the later
    trained = Trained(told)
    model = Conv1dVAE(LAGS, told.features, LATENT)
    loader = DataLoader(trained.windows(LAGS), FIT_BATCH)
    TimeseriesTrainer(EPOCHS, logger=False, accelerator="cpu").fit(model, loader)
    windows = Windows(LAGS)

    def score(values: Any, slots: Any) -> None:
        window = windows.add(slots[0], trained.unit(values[0]))
        x = torch.from_numpy(window).unsqueeze(0)
        model.eval()
        with torch.no_grad():
            error = model.get_reconstruction_loss(x, reduction="none")
        np.ascontiguousarray(error).squeeze(0)

    run(told, score)


if __name__ == "__main__":
    main()
