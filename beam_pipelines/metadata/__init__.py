"""What other libraries read beside the shards."""
