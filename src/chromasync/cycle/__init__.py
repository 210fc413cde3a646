"""One cycle of the coordinator: collections, walks, tasks, deletes, close."""
