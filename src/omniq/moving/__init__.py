"""Two stores as one, while an application moves from one to the other without stopping.

`omniq move` leaves a marker in the source (`marker`). Every application that uses the source sees
it within `times.VALID_SECONDS` and serves its calls from both stores from then on (`queue`,
`stores`): new tasks go to the target, workers claim from both, reads see either. Meanwhile the
mover (`omniq.migration.mover`) transfers what waits (`transfer`) and copies what is finished. When
the source holds no live task any more, the marker says so, and only the target is used.

At no step is a task runnable in both stores; `parking` says how.
"""
