"""`python -m limner`: the command line, where its script is not on the PATH."""

from .core.cli import main

raise SystemExit(main())
