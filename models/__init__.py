"""The VAE, the panel it is a member of, and what is written of them. Arrays in, arrays out."""

import os

# XLA has no other way to be told, and looks when it first computes; nothing is read here. One thread: on blocks as
# small as these a second one costs more in handing over than it gains (measured at 25 channels x 5 lags: 7.4 us of
# processor a record with two, 3.1 with one).
os.environ["PJRT_NPROC"] = "1"
# Two devices, each with a thread of its own, so that the scorer can have both halves of a batch computed at once.
os.environ["JAX_NUM_CPU_DEVICES"] = "2"
# Nothing else is looked for: an accelerator takes 8 s to begin and most of its own memory, and may round otherwise at
# each start, for XLA takes what was fastest just then. `devices.accelerate` is for those who want it.
os.environ["JAX_PLATFORMS"] = "cpu"
