"""Tests of gridfs: unit (pure), contract, sim (no clock), mount (real FUSE), cli."""
