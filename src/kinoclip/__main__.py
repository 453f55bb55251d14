"""`python -m kinoclip`."""

import sys

from kinoclip.cli import main

sys.exit(main())
