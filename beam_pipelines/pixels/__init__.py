"""One picture and its mask: pure functions over bytes and arrays."""
