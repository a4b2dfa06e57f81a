"""One image and its mask: pure functions of bytes and arrays."""
