"""Lets `python -m roadseg` do what `roadseg` does."""

from roadseg.cli import main

main()
