"""`python -m qhybrid.cli`, for environments without the `qhybrid` script."""

from qhybrid.cli.main import run

if __name__ == "__main__":
    run()
