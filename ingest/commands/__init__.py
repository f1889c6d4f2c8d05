"""What each command of `postback` does; `ingest.cli` reads the command line and imports the one that was asked for."""
