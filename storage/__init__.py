"""Records, the queue's reading side, the writer and everything in Postgres."""
