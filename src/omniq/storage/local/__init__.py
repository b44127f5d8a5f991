"""What backends on a local disk share: locks, wake-up sockets, noticing death, the file system."""
