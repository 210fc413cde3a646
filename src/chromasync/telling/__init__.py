"""What people read of a report: the same tables and sentences on a terminal and in a notebook."""
