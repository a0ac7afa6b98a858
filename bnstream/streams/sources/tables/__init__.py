"""Tables: sources whose pieces are record batches of pyarrow, of which each column is read by itself."""
