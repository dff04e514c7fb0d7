"""Other programs on the same topic, each as its users run it, in an environment of its own."""
