"""`python -m chromasync` is the command line."""

from chromasync.cli import main

main()
