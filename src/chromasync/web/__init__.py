"""The status page, its JSON, the metrics and the health checks.

Everything here shows `reports.StatusSnapshot`. A `SnapshotCache` takes it from the store, at most
once a second for all tabs and all scrapes together. The server (`server`) runs in a thread of
`chromasync run`, or in a process of its own (`chromasync dashboard`). An error in it never ends the
service.
"""
