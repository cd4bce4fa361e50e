"""``python -m distkit_actors``."""

import sys

from ._demo.main import main

if __name__ == "__main__":
    sys.exit(main())
