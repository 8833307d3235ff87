"""`python -m cloud_service` is `cloud-service`."""

import sys

from cloud_service.cli import main

sys.exit(main())
