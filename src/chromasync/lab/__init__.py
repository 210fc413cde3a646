"""Everything besides the service: local servers, fakes, the judge, the demo, the self-test.

It is part of the package, because `chromasync demo` and `chromasync selftest` are commands of the
program, and users may test their set-ups with the fakes. Only these commands import it.
"""
