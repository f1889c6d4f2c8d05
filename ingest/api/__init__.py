"""The HTTP API under /api/v1: what people and programs look at the catalog with, and change it."""
