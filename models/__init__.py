"""The VAE, the panel it is a member of, and what is written of them. Arrays in, arrays out."""
