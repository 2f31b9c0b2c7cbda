"""`python -m wan2_i2v.doors.cli` is `wan2-i2v`."""

import sys

from wan2_i2v.doors.cli import main

sys.exit(main())
