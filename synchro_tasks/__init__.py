"""Delivery of logged changes by Celery: queueing on commit, the tasks, and the schedule of the checkpoint."""
