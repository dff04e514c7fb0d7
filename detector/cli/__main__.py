"""`python -m tocsin.detector.cli`, for where no script is installed and for child processes."""

from . import main

if __name__ == "__main__":
    main()
