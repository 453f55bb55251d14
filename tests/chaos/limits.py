"""How much is attacked: all of it in `make chaos`, a quick part in `make test`."""

import os

IS_FULL = os.environ.get("KINOCLIP_CHAOS") == "full"
