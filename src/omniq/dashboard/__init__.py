"""The dashboard: tasks, queues and schedules of one application, in a browser.

q = OmniQ("postgresql://…")
app.mount("/queue", dashboard(q))                               # of FastAPI or Starlette
app.mount("/queue", require_password(dashboard(q), password))   # asks who comes by

By itself: ``omniq dashboard``.
"""

from __future__ import annotations

from omniq.dashboard.extra import needed_for

with needed_for("dashboard"):
    from omniq.dashboard.app import dashboard
    from omniq.dashboard.guard import require_password

__all__ = ["dashboard", "require_password"]
