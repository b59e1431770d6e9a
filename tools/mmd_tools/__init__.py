"""mmd_tools: everything that happens offline, before a board sees an artifact set."""
