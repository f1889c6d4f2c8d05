"""Counting each event as often as its goal says: claim keys, conversion ids, and the atomic claim + enqueue in Redis."""
