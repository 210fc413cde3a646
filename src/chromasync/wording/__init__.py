"""What people read about a state: the same sentences on the terminal and on the page."""
