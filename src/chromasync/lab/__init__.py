"""What is not the service: real servers on loopback, fakes, the judge, the demo, the self-test.

It is shipped, because `chromasync demo` and `chromasync selftest` are commands of the program, and
users may test their set-ups with the fakes. Nothing of the service imports it but those commands.
"""
