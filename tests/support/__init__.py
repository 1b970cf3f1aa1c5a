"""What the tests stand on: data, servers, an ordinary user, and the checks that nothing is left behind."""
