"""Both archives, byte for byte: written the same way every time, and read with limits."""
