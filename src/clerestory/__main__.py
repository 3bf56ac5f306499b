"""``python -m clerestory``: the command line."""

from clerestory.cli.main import main

main()
