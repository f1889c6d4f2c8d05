"""Counting each event as often as its goal says: claim keys, conversion ids, the atomic claim + enqueue in Redis."""
