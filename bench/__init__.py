"""Races chromasync against the raw speed of Chroma and the loop that people write.

`python -m bench` prints the table of the README; `python -m bench.memory` shows the memory of a
sync of a million ids. Fidelity is judged first, by the official client: who is not identical gets
no rank for speed.
"""
