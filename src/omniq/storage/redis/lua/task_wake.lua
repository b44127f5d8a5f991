-- Put a wake-up token back. ARGV: queue.
wake(ARGV[1])
