"""The ledger's rules: digests, the walk that compares ids with the ledger, and the plan."""
