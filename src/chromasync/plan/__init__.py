"""The decisions of a cycle, made once: a cycle carries them out, `chromasync plan` prints them.

Decisions never write. They depend only on both listings, on reads and on the ledger.
"""
