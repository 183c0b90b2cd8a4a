"""What is done with a finished bundle: signed again, staged, packaged, put on an ISO image."""
