"""``bnstream demo``: a stream of flights, and with ``--train`` two small networks."""
