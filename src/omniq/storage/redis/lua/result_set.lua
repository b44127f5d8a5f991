-- Store results. ARGV: see `put_results`; returns its marks.
return put_results(1)
