-- Read tasks. ARGV: ids. Returns their records and their payloads, false where there is none.
return { get_many(PREFIX .. 'tasks', ARGV), get_many(PREFIX .. 'payloads', ARGV) }
