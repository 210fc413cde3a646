"""Makes one chunk of the replica equal to the primary: read, diff, apply, verify."""
