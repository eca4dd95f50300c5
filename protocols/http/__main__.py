"""``python -m protocols.http``: the fetcher."""

import sys

from protocols.http.fetch import main

sys.exit(main())
