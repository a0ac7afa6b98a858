"""``bnstream demo``: statistics of a stream of flights; with ``--train`` two small networks."""
