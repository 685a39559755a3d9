"""Plans of tests use the closed form: tracing starts a process that imports torch. Tests of tracing turn it on themselves."""

import os

os.environ["AFFINAGE_TRACE_PLANS"] = "false"
