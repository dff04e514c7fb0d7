"""What all tests share: the brokers and other real components under `rigs/`."""

pytest_plugins = ["rigs.fixtures", "versions"]
