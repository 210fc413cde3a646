"""Workers: threads of this process that claim tasks, reconcile their chunks, record the outcome."""
