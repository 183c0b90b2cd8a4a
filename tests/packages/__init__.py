"""The packages of this tool: a wheel, a source archive and a Debian package, each tried outside of the checkout."""
