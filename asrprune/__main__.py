"""``python -m asrprune``: the same as the ``asrprune`` command."""

import sys

from asrprune.cli.main import main

sys.exit(main())
