"""What happens to a version after it was made: looked at, compared, read back, copied out, deleted, collected."""
