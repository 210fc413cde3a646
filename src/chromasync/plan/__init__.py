"""What a cycle would do, decided once: the cycle carries it out, `chromasync plan` prints it.

Decisions are pure: they take what was listed and what the ledger says, and never write anywhere.
"""
