"""`python -m conv_dlm` is `conv-dlm`."""

import sys

from conv_dlm.cli import main

sys.exit(main())
