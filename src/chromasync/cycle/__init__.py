"""One cycle of the coordinator: collections, walk, tasks, deletes, close."""
