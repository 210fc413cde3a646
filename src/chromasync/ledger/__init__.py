"""What the ledger says, and how the primary's ids are held against it: digests, walk, plan."""
