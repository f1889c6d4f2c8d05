"""Publishers' postbacks: their templates, where they may go, and the sender."""
