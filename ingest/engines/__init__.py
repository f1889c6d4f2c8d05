"""Embedded PostgreSQL and Valkey: real servers from wheels, supervised by this program."""

from ingest.engines.errors import EngineBusyError, EngineError, EngineFailure
from ingest.engines.supervision import Engines, EngineUrls, attached, running_urls

__all__ = ["EngineBusyError", "EngineError", "EngineFailure", "EngineUrls", "Engines", "attached", "running_urls"]
