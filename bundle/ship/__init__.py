"""Work on a finished bundle: it is signed again, staged, packaged, put on an ISO image."""
