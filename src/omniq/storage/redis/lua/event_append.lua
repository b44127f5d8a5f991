-- Append events. ARGV: see `put_events`.
put_events(1)
