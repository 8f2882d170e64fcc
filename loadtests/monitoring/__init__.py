"""Dashboards and alerts: written from their sources, drawn and rehearsed with a real Prometheus."""
