"""Circuits as a device gets them: merged, prepared, packed into PUBs, and their results decoded."""
