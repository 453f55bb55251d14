"""`python -m kinoclip.cli`."""

import sys

from kinoclip.cli import main

sys.exit(main())
