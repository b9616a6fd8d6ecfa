"""What we know of servers: talking to one, starting one, and the two that we bring."""
