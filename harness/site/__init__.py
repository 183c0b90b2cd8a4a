"""What an agent VM finds on its management network."""
